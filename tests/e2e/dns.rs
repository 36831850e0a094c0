//! Endpoints that are names.

use std::{collections::HashSet, time::Duration};

use wasmgate_tests::{
    Client, Faulty, Load, Mood, TestGateway, TestUpstream, before_all,
    dns::{Failure, Record, TestDns},
    eventually,
};

/// Names are asked for all the time.
fn gateway(dns: &TestDns, endpoint: &str, rest: &str) -> TestGateway {
    let servers = format!(
        "[dns]\nservers = [\"{}\"]\nmin_ttl = \"50ms\"\nmax_ttl = \"200ms\"\ntimeout = \"300ms\"\n",
        dns.address()
    );
    let config = before_all(&[&endpoint], &format!("{rest}[server]\nworkers = 1\n{servers}"));
    TestGateway::start(&config)
}

/// Who answers.
fn answers(gateway: &TestGateway, count: usize) -> Vec<String> {
    let mut client = Client::connect(gateway.addr());
    (0..count).map(|_| client.get("/").text()).collect()
}

fn those(gateway: &TestGateway) -> HashSet<String> {
    answers(gateway, 12).into_iter().collect()
}

fn set(endpoints: &[&Faulty]) -> HashSet<String> {
    endpoints.iter().map(|endpoint| endpoint.to_string()).collect()
}

fn a(last: u8) -> Record {
    Record::A([127, 0, 0, last].into())
}

fn srv(priority: u16, weight: u16, endpoint: &Faulty) -> Record {
    Record::Srv { priority, weight, port: endpoint.address().port(), target: "host.app.test".to_owned() }
}

#[test]
fn a_name_stands_for_all_of_its_addresses_as_they_are_now() {
    let first = Faulty::start();
    let (second, third) = (first.beside([127, 0, 0, 2]), first.beside([127, 0, 0, 3]));
    let dns = TestDns::start();
    dns.set("app.test", 0, [a(1), a(2)]);
    let gateway = gateway(&dns, &format!("app.test:{}", first.address().port()), "");
    assert_eq!(those(&gateway), set(&[&first, &second]));
    let connections = second.connections();
    dns.set("app.test", 0, [a(3), a(2)]);
    eventually!(those(&gateway) == set(&[&second, &third]));
    assert_eq!(second.connections(), connections, "who stays keeps its connections");
    assert_eq!(gateway.endpoint("app", &first), serde_json::Value::Null);
    dns.set("app.test", 0, [a(1)]);
    eventually!(those(&gateway) == set(&[&first]));
    assert!(gateway.access().iter().all(|line| line["status"] == 200));
}

#[test]
fn what_was_known_stands_while_nobody_can_tell() {
    let upstream = Faulty::start();
    let other = upstream.beside([127, 0, 0, 2]);
    let dns = TestDns::start();
    dns.set("app.test", 0, [a(1)]);
    let gateway = gateway(&dns, &format!("app.test:{}", upstream.address().port()), "");
    for failure in [Failure::ServFail, Failure::NxDomain, Failure::Silence] {
        dns.fail("app.test", failure);
        let (asked, told) = (dns.count("app.test"), gateway.logged("cannot be looked up").len());
        eventually!(gateway.logged("cannot be looked up").len() > told && dns.count("app.test") > asked);
        assert_eq!(those(&gateway), set(&[&upstream]), "{failure:?}");
    }
    dns.set("app.test", 0, [a(2)]);
    eventually!(those(&gateway) == set(&[&other]));
}

#[test]
fn records_of_a_service_tell_ports_weights_and_priorities() {
    let [mut light, mut heavy, spare, later] = Faulty::several();
    let dns = TestDns::start();
    dns.set("host.app.test", 0, [a(1)]);
    dns.set("_http._tcp.app.test", 0, [srv(10, 1, &light), srv(10, 3, &heavy), srv(20, 1, &spare)]);
    let health = "[upstream.app.health]\ninterval = \"50ms\"\nsuccesses = 1\nfailures = 1\n";
    let config = before_all(
        &[&"{ service = \"_http._tcp.app.test\" }"],
        &format!(
            "{health}[server]\nworkers = 1\n[dns]\nservers = [\"{}\"]\nmin_ttl = \"50ms\"\n",
            dns.address()
        ),
    );
    let gateway = TestGateway::start(&config);
    let found = answers(&gateway, 40);
    let count = |endpoint: &Faulty| found.iter().filter(|answer| **answer == endpoint.to_string()).count();
    assert_eq!([count(&light), count(&heavy), count(&spare)], [10, 30, 0]);
    assert_eq!(gateway.endpoint("app", &heavy)["weight"], 3);
    light.kill();
    heavy.kill();
    eventually!(those(&gateway) == set(&[&spare]));
    dns.set("_http._tcp.app.test", 0, [srv(0, 0, &later), srv(1, 5, &spare)]);
    eventually!(those(&gateway) == set(&[&later]));
}

#[test]
fn a_dead_name_server_costs_the_upstream_and_nothing_else() {
    let upstream = Faulty::start();
    let dns = TestDns::start();
    dns.fail("app.test", Failure::Silence);
    let other = format!(
        "[upstream.other]\nendpoints = [\"{upstream}\"]\n\
         [[route]]\nname = \"other\"\nmatch = {{ path = \"/other\" }}\nupstream = \"other\"\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\n"
    );
    let gateway = gateway(&dns, &format!("app.test:{}", upstream.address().port()), &other);
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (503, "no_healthy_upstream"));
    assert_eq!(gateway.get("/other").status, 200);
    dns.set("app.test", 60, [a(1)]);
    eventually!(gateway.get("/").status == 200);
}

#[test]
fn nobody_at_the_port_of_the_name_server_is_the_same() {
    let nobody = TestUpstream::nobody();
    let config =
        before_all(&[&"app.test:80"], &format!("[dns]\nservers = [\"{nobody}\"]\ntimeout = \"300ms\"\n"));
    let gateway = TestGateway::start(&config);
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (503, "no_healthy_upstream"));
}

#[test]
fn the_upstream_may_be_sent_its_own_name() {
    let upstream = TestUpstream::echo_headers();
    let dns = TestDns::start();
    dns.set("app.test", 60, [a(1)]);
    let name = format!("app.test:{}", upstream.address().port());
    for (host, seen) in [("upstream", name.as_str()), ("preserve", "a.test"), ("b.test:81", "b.test:81")] {
        let gateway = gateway(&dns, &name, &format!("host = \"{host}\"\n"));
        let text = gateway.get("/").text().to_lowercase();
        assert!(text.contains(&format!("host: {seen}\n")), "{host}: {text}");
        assert_eq!(gateway.endpoint("app", &upstream.address())["name"], *name);
    }
}

#[test]
fn a_reload_does_not_wait_for_names_that_are_known() {
    let upstream = Faulty::start();
    let dns = TestDns::start();
    dns.set("app.test", 0, [a(1)]);
    let gateway = gateway(&dns, &format!("app.test:{}", upstream.address().port()), "");
    assert_eq!(those(&gateway), set(&[&upstream]));
    dns.fail("app.test", Failure::Silence);
    let before = std::time::Instant::now();
    gateway.reload();
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(those(&gateway), set(&[&upstream]));
}

#[test]
fn a_new_address_is_checked_before_it_is_trusted() {
    let well = Faulty::start();
    let ill = well.beside([127, 0, 0, 2]);
    ill.set(Mood::Status(500));
    let dns = TestDns::start();
    dns.set("app.test", 0, [a(1)]);
    let rest = "[upstream.app.health]\ninterval = \"50ms\"\ninitial = \"unhealthy\"\n[upstream.app.balance]\npanic = 0\n";
    let gateway = gateway(&dns, &format!("app.test:{}", well.address().port()), rest);
    eventually!(gateway.serves(&well));
    let load = Load::get(gateway.addr(), "/", 500).start();
    dns.set("app.test", 0, [a(1), a(2)]);
    eventually!(ill.count() > 1);
    let answers = load.stop();
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.is_empty(), "{} {:?}", failed.len(), failed.first());
    assert_eq!(gateway.endpoint("app", &ill)["state"], "unhealthy");
    ill.set(Mood::Well);
    eventually!(those(&gateway) == set(&[&well, &ill]));
}
