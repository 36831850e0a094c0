//! A real nginx behind the gateway.

use std::fs;

use wasmgate_tests::{Client, Nginx, TestGateway, fill, peer, request};

const SERVER: &str = "\
    keepalive_requests 1000; \
    location /count { return 200 \"$connection $connection_requests\"; } \
    location /chunked { gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; try_files /file.txt =404; } \
    location / { } ";

#[test]
fn nginx_as_upstream() {
    let Some(program) = peer("nginx") else { return };
    let nginx = Nginx::start(program, SERVER);
    let large: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(nginx.directory.path().join("large.bin"), &large).unwrap();
    fs::write(nginx.directory.path().join("file.txt"), "some text ".repeat(1000)).unwrap();
    let gateway = TestGateway::start(&fill(
        "[server]\nworkers = 1\n[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{nginx}\"]\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\n",
        &[("nginx", &nginx.address)],
    ));

    // Six requests of three clients on one connection to nginx.
    let mut counts = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(gateway.addr());
        counts.extend([client.get("/count").text(), client.get("/count").text()]);
    }
    let (connections, requests): (Vec<_>, Vec<_>) =
        counts.iter().filter_map(|text| text.split_once(' ')).unzip();
    assert!(connections.iter().all(|connection| *connection == connections[0]), "{counts:?}");
    assert_eq!(requests, ["1", "2", "3", "4", "5", "6"]);

    let mut client = Client::connect(gateway.addr());
    let gzip = "GET /chunked HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    let response = client.send(gzip).response();
    assert_eq!(response.header("content-encoding"), Some("gzip"), "{response:?}");
    assert_eq!(
        (response.header("transfer-encoding"), &response.body[..2]),
        (Some("chunked"), &[0x1f, 0x8b][..])
    );

    let response = client.get("/large.bin");
    assert!(response.body == large, "{} bytes", response.body.len());
    let etag = response.header("etag").expect("nginx gives one").to_owned();
    let head = client.send("HEAD /large.bin HTTP/1.1\r\nHost: a\r\n\r\n").response_to("HEAD");
    assert_eq!((head.status, head.header("content-length")), (200, Some("20000000")));
    let fresh = request(gateway.addr(), "GET", "/large.bin", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((fresh.status, fresh.header("etag")), (304, Some(etag.as_str())));
    let part = request(gateway.addr(), "GET", "/large.bin", "Range: bytes=250-252\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &[250, 0, 1][..]));
    assert_eq!(part.header("content-range"), Some("bytes 250-252/20000000"));
    assert_eq!(client.get("/none").status, 404);
}
