//! A guest that lies: every host function, called a million times with arguments and memory that mean
//! nothing, half of it in the phases where it is legal. Each call has to end in a status or in a trap.

use std::{fmt::Write, net::SocketAddr};

use http::{HeaderMap, Method, StatusCode, Version};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use wasmtime::{Module, Val, ValType};

use super::*;
use crate::{
    capability::Capabilities,
    config::PluginLimits,
    plugin::{
        exchange::{Connection, RequestHead, ResponseHead, State},
        services::{Services, Tasks},
    },
    telemetry::metrics::Metrics,
    wasm::{
        engine,
        proxy_wasm::{abi, imports, imports::foreign::FUNCTIONS, module, pairs},
    },
};

const CALLS: usize = 1_000_000;
/// Of memory; a page is 64 KiB.
const SIZE: u32 = 2 * 65_536;
/// Where the name of a foreign function is put.
const NAME: usize = 8192;

/// A module with every host function behind an export of its own.
fn module(engine: &wasmtime::Engine) -> (Module, Vec<(String, Vec<ValType>, usize)>) {
    let linker = imports::linker(engine).unwrap();
    let guest = Guest {
        version: abi::Version::V0_2_1,
        vm_id: String::new(),
        vm_config: Bytes::new(),
        environment: Default::default(),
    };
    let limiter = Limiter::new(1 << 20, Arc::default());
    let mut store =
        Store::new(engine, VmData::new(Arc::new(guest), context(), std::rc::Weak::new(), limiter));
    let all: Vec<_> =
        linker.iter(&mut store).map(|(from, name, item)| (from.to_owned(), name.to_owned(), item)).collect();
    let (mut imports, mut exports, mut functions) = (String::new(), String::new(), Vec::new());
    for (number, (from, name, item)) in all.into_iter().enumerate() {
        let ty = item.into_func().unwrap().ty(&store);
        let types: Vec<_> = ty.params().collect();
        let list = |types: &[ValType], word: &str| match types {
            [] => String::new(),
            types => {
                format!("({word} {})", types.iter().map(ValType::to_string).collect::<Vec<_>>().join(" "))
            }
        };
        let results: Vec<_> = ty.results().collect();
        let signature = format!("{} {}", list(&types, "param"), list(&results, "result"));
        writeln!(imports, r#"(import "{from}" "{name}" (func $f{number} {signature}))"#).unwrap();
        let arguments: String = (0..types.len()).map(|place| format!("local.get {place} ")).collect();
        writeln!(exports, r#"(func (export "f{number}") {signature} {arguments} call $f{number})"#).unwrap();
        functions.push((format!("{from}.{name}"), types, results.len()));
    }
    let text = format!(
        r#"(module {imports} (memory (export "memory") 2 2)
           (global $at (export "at") (mut i32) (i32.const 0))
           (func (export "malloc") (param i32) (result i32) global.get $at)
           (func (export "proxy_abi_version_0_2_1")) {exports})"#
    );
    (Module::new(engine, wat::parse_str(text).unwrap()).unwrap(), functions)
}

fn context() -> Arc<PluginContext> {
    let limits = PluginLimits { host_bytes: 1 << 20, log_rate: 1, ..PluginLimits::default() };
    let capabilities = Arc::new(Capabilities::new(Arc::new(Metrics::default())));
    PluginContext::new(
        "liar".into(),
        "liar".into(),
        limits,
        vec!["u".into()],
        Vec::new(),
        false,
        capabilities,
    )
}

fn state() -> Box<State> {
    let mut headers = HeaderMap::new();
    headers.insert("x-key", http::HeaderValue::from_static("value"));
    let request = RequestHead {
        method: Method::GET,
        version: Version::HTTP_11,
        authority: http::uri::Authority::from_static("a"),
        target: http::uri::PathAndQuery::from_static("/p?q"),
        headers: headers.clone(),
        send_authority: None,
        send_target: None,
    };
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut state = State::new(request, Arc::new(Connection::new(nobody, nobody, None)), nobody.ip());
    state.response = Some(ResponseHead { status: StatusCode::OK, headers, local: None });
    Box::new(state)
}

/// A number that is now and then what a guest would give.
fn number(random: &mut StdRng) -> u64 {
    match random.random_range(0..10) {
        0..4 => random.random_range(0..16),
        4..7 => random.random_range(0..u64::from(SIZE)),
        7 => u64::from(SIZE) - random.random_range(0..16),
        8 => u64::from(u32::MAX) - random.random_range(0..16),
        _ => random.random(),
    }
}

/// Noise, names that mean something, and lists of pairs, some of them torn.
fn fill(memory: &mut [u8], random: &mut StdRng) {
    random.fill(&mut memory[..]);
    let words: [&[u8]; 12] = [
        b"x-key",
        b":path",
        b":status",
        b":authority",
        b":method",
        b"request\0path",
        b"filter_state\0x",
        b"u",
        b"compress",
        b"uncompress",
        b"declare_property",
        b"grpc-status",
    ];
    for place in (0..64).map(|n| n * 16) {
        let word = words[random.random_range(0..words.len())];
        memory[place..][..word.len()].copy_from_slice(word);
    }
    let call = [(&b":method"[..], &b"GET"[..]), (b":path", b"/"), (b":authority", b"u"), (b"x", b"y")];
    let mut list = pairs::encode(call.into_iter());
    memory[2048..][..list.len()].copy_from_slice(&list);
    let torn = random.random_range(0..list.len());
    list[torn] = random.random();
    memory[4096..][..list.len()].copy_from_slice(&list);
}

#[test]
fn a_guest_that_lies_gets_a_status_or_ends() {
    let engine = engine::build().unwrap();
    let (module, types) = module(&engine);
    let linked = module::link(&engine, &module).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let mut random = StdRng::seed_from_u64(20_261_121);
    let (mut made, mut trapped, mut statuses) = (0, 0, [0_usize; 16]);
    while made < CALLS {
        let guest = Guest {
            version: abi::Version::V0_2_1,
            vm_id: "v".to_owned(),
            vm_config: Bytes::from_static(b"config"),
            environment: [("A".to_owned(), "b".to_owned())].into(),
        };
        let vm = Vm::start(&linked, Arc::new(guest), &context(), Arc::default()).unwrap();
        let (tasks, mut queue) = Tasks::new();
        let services = Services { tasks, ..Services::none() };
        let settings = RootSettings {
            root_id: "r".to_owned(),
            config: Bytes::from_static(b"c"),
            clusters: vec![],
            reroute: true,
            node: Arc::default(),
        };
        let root = vm.add_root(context(), Arc::new(settings), services).unwrap();
        let stream = vm.add_stream(root, Rc::default()).unwrap();
        // Its exports are called here without the VM, which would end with the first trap.
        let instance = {
            let store = &mut vm.live.borrow_mut().store;
            let instance = linked.pre.instantiate(&mut *store).unwrap();
            let malloc = instance.get_typed_func(&mut *store, "malloc").unwrap();
            let memory = instance.get_memory(&mut *store, "memory");
            (store.data_mut().memory, store.data_mut().allocate) = (memory, Some(malloc));
            instance
        };
        for _ in 0..10_000 {
            let store = &mut vm.live.borrow_mut().store;
            prepare(store, Duration::from_secs(1), 1 << 20);
            let data = store.data_mut();
            (data.current, data.effective) = (if random.random() { stream } else { root }, stream);
            data.mode = Mode::Running;
            if let Some(stream) = data.streams.get_mut(&stream) {
                stream.state.get_or_insert_with(state);
                stream.ruling = None;
                (stream.request.head_open, stream.response.head_open) = random.random();
                (stream.request.body_open, stream.response.body_open) = random.random();
                (stream.request.trailers_open, stream.response_reached) = random.random();
            }
            let memory = data.memory.unwrap();
            if made % 1000 == 0 {
                fill(memory.data_mut(&mut *store), &mut random);
            }
            let at = instance.get_global(&mut *store, "at").unwrap();
            at.set(&mut *store, Val::I32(number(&mut random) as u32 as i32)).unwrap();
            let place = random.random_range(0..types.len());
            let (name, parameters, results) = &types[place];
            let function = instance.get_func(&mut *store, &format!("f{place}")).unwrap();
            let mut arguments: Vec<_> = parameters
                .iter()
                .map(|ty| match ty {
                    ValType::I64 => Val::I64(number(&mut random) as i64),
                    _ => Val::I32(number(&mut random) as u32 as i32),
                })
                .collect();
            if name == "env.proxy_call_foreign_function" && random.random() {
                let (known, _) = FUNCTIONS[random.random_range(0..FUNCTIONS.len())];
                memory.data_mut(&mut *store)[NAME..][..known.len()].copy_from_slice(known.as_bytes());
                (arguments[0], arguments[1]) = (Val::I32(NAME as i32), Val::I32(known.len() as i32));
            }
            let mut answers = vec![Val::I32(0); *results];
            match function.call(&mut *store, &arguments, &mut answers) {
                Ok(()) if name.starts_with("env.proxy_") => {
                    statuses[answers[0].unwrap_i32().clamp(0, 15) as usize] += 1;
                }
                Ok(()) => {}
                Err(_) => trapped += 1,
            }
            made += 1;
            while queue.try_recv().is_ok() {}
        }
    }
    // It has met what it came for.
    assert_eq!(trapped, 0);
    for status in [0, 1, 2, 6] {
        assert!(statuses[status] > made / 1000, "{statuses:?}");
    }
}
