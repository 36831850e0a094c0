//! Everything that may be wrong with what is reloaded: the gateway says what and where, and goes on with
//! what it has.

use std::{fs, io::Write, path::PathBuf, process::Command};

use wasmgate_tests::{Client, Pipe, Signal, TestGateway, fill, version};

const CONFIG: &str = r#"
reload.watch = false
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[plugin.thing]
file = "thing.wasm"
[[route]]
name = "all"
plugins = ["thing", { name = "respond", config = { body = "{body}" } }]
[plugins]
directory = "{plugins}"
"#;

fn config(body: &str) -> String {
    fill(CONFIG, &[("body", &body), ("plugins", &"{plugins}")])
}

/// A gateway that is offered faulty files, one after the other.
struct Offered {
    gateway: TestGateway,
    client: Client,
    count: u32,
}

impl Offered {
    fn new() -> Offered {
        let gateway = TestGateway::start_in(&config("good"), &[], |folder| {
            fs::write(folder.join("thing.wasm"), version("good", "v0000001")).unwrap();
        });
        let client = Client::connect(gateway.addr());
        Offered { gateway, client, count: 0 }
    }

    fn thing(&self) -> PathBuf {
        self.gateway.directory().join("thing.wasm")
    }

    /// Reloads; it has to be refused with all of these words, and nothing else may happen.
    fn refused(&mut self, what: &str, told: &[&str]) {
        self.count += 1;
        let before = self.gateway.log().len();
        self.gateway.reload();
        let log = self.gateway.log()[before..].to_owned();
        assert!(log.contains("not reloaded"), "{what}: {log}");
        for told in told {
            assert!(log.contains(told), "{what}: not {told:?} in {log}");
        }
        let response = self.client.get("/");
        let version = response.header("x-version");
        assert_eq!((response.text().as_str(), version), ("good", Some("v0000001")), "{what}");
        let refused = self.gateway.metric("wasmgate_reloads_total{result=\"refused\"}");
        assert_eq!(refused, f64::from(self.count), "{what}");
    }

    /// With this in the place of the plugin's file.
    fn plugin(&mut self, what: &str, bytes: &[u8], told: &[&str]) {
        fs::write(self.thing(), bytes).unwrap();
        self.refused(what, &[&["gateway.toml:8:1: error: plugin.thing: plugin `thing`"], told].concat());
    }
}

#[test]
fn every_fault_is_told_and_harms_nothing() {
    let mut offered = Offered::new();
    let good = version("good", "v0000002");

    for part in 0..10 {
        let length = good.len() * part / 10 + part;
        let told = if length < 8 { "is not WebAssembly" } else { "thing.wasm cannot be compiled" };
        offered.plugin("cut off", &good[..length], &[told]);
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let next = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 56) as u8
        };
        (0..length).map(|_| next(&mut state)).collect()
    };
    for length in [1, 100, 10_000] {
        offered.plugin("noise", &noise(length), &["thing.wasm is not WebAssembly"]);
        let with_a_head = [&good[..8], &noise(length)].concat();
        offered.plugin("noise behind a head", &with_a_head, &["thing.wasm cannot be compiled"]);
    }
    let mut scratched = good.clone();
    let middle = scratched.len() / 2;
    scratched[middle..middle + 64].fill(0xff);
    offered.plugin("a scratch", &scratched, &["thing.wasm cannot be compiled"]);

    offered.plugin("a core module", b"\0asm\x01\0\0\0", &["core module", "wasm32-wasip2"]);
    let filter = wat::parse_str(r#"(module (func (export "proxy_abi_version_0_3_0")))"#).unwrap();
    offered.plugin("another ABI", &filter, &["is a proxy-wasm filter with `proxy_abi_version_0_3_0`"]);
    offered.plugin("an empty component", b"\0asm\x0d\0\x01\0", &["not a plugin for this gateway"]);
    let import = ("wasmgate:plugin/request@0.1.0", "wasmgate:plugin/reqvest@0.1.0");
    let told = ["not a plugin for this gateway", "wasmgate:plugin/reqvest@0.1.0"];
    offered.plugin("an unknown import", &replaced(&good, import.0, import.1), &told);
    fs::write(offered.thing(), version("init", "v0000003")).unwrap();
    offered.refused("an error of init", &["gateway.toml:12:", "this version does not start"]);

    fs::remove_file(offered.thing()).unwrap();
    offered.refused("no file", &["gateway.toml:9:8", "there is no file `thing.wasm`"]);
    fs::create_dir(offered.thing()).unwrap();
    offered.refused("a folder", &["gateway.toml:9:8", "there is no file `thing.wasm`"]);
    fs::remove_dir(offered.thing()).unwrap();
    fs::write(offered.thing(), version("good", "v0000001")).unwrap();

    for file in faulty_configs() {
        offered.gateway.write_config(&fs::read_to_string(&file).unwrap());
        offered.refused(&file.display().to_string(), &["gateway.toml", "error: "]);
    }
    fs::remove_file(offered.gateway.directory().join("gateway.toml")).unwrap();
    offered.refused("no config", &["gateway.toml: error: cannot be read"]);
    fs::write(offered.gateway.directory().join("gateway.toml"), [0xff, 0xfe, 0]).unwrap();
    offered.refused("a config that is no text", &["gateway.toml: error: cannot be read"]);
    assert!(offered.count >= 50, "{}", offered.count);

    offered.gateway.write_config(&config("better"));
    offered.gateway.reload();
    assert_eq!(offered.client.get("/").text(), "better");
}

/// A limit on the size of files stands for a full disk: writes fail, and the system says so by a signal too. What is
/// compiled is larger, the first memory of an instance, which is a file as well, is not.
#[test]
fn a_full_disk_costs_the_cache_and_nothing_else() {
    let config = config("good").replace("[plugins]", "[plugins]\ncache = \"cache\"");
    let gateway = TestGateway::start_in(&config, &[], |folder| {
        fs::write(folder.join("thing.wasm"), version("good", "v0000001")).unwrap();
    });
    let (folder, pid) = (gateway.directory(), gateway.pid().to_string());
    let limited = Command::new("prlimit").args(["--fsize=262144:262144", "--pid", &pid]).status();
    assert!(limited.is_ok_and(|status| status.success()));
    let cached = || fs::read_dir(folder.join("cache")).unwrap().count();
    let before = cached();
    fs::write(folder.join("thing.wasm"), version("good", "v0000002")).unwrap();
    gateway.reload();
    let told = gateway.logged("the compile cache cannot be written");
    assert!(told.len() == 1 && told[0].contains("/cache/"), "{}", gateway.log());
    assert_eq!(gateway.get("/").header("x-version"), Some("v0000002"));
    assert_eq!(cached(), before);
}

/// The file is a pipe, so that the test knows when it is read.
#[test]
fn a_file_that_is_deleted_while_it_is_read_is_told() {
    let gateway = TestGateway::start_in(&config("good"), &[], |folder| {
        fs::write(folder.join("thing.wasm"), version("good", "v0000001")).unwrap();
    });
    let path = gateway.directory().join("pipe");
    let pipe = Pipe::make(&path);
    let other = "on_load_error = \"disable-route\"\n[[route]]\nname = \"other\"\nmatch = { path = \"/other\" }\n\
                 plugins = [{ name = \"respond\", config = { body = \"other\" } }]\n[[route]]\nname = \"all\"";
    let config = config("good").replace("\"thing.wasm\"", "\"pipe\"");
    gateway.write_config(&config.replace("[[route]]\nname = \"all\"", other));
    gateway.reloads_after(|| {
        gateway.signal(Signal::Hangup);
        let mut writer = pipe.writer();
        assert_eq!(gateway.get("/").text(), "good", "while it loads");
        writer.write_all(&version("good", "v0000002")[..1000]).unwrap();
        fs::remove_file(&path).unwrap();
    });
    let told = gateway.logged("routes are disabled");
    assert!(told.len() == 1 && told[0].contains("pipe cannot be compiled"), "{}", gateway.log());
    assert_eq!((gateway.get("/").status, gateway.get("/other").text().as_str()), (503, "other"));
}

/// Configs with each kind of mistake, whose messages have tests of their own.
fn faulty_configs() -> Vec<PathBuf> {
    let folder = wasmgate_build::workspace().join("tests/golden/config");
    let files = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|ext| ext == "toml")).collect();
    files.sort();
    files
}

/// The bytes with one text in the place of another of the same length, wherever it stands.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut found = 0;
    for start in 0..bytes.len() - from.len() {
        if bytes[start..].starts_with(from.as_bytes()) {
            bytes[start..][..to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from}");
    bytes
}
