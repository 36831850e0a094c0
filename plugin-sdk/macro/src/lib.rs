//! The attributes of `wasmgate-sdk`: `#[plugin]` and `#[config]`. They only walk tokens, so that a
//! plugin does not pay for a parser at build time. They must not know what a phase does.

use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

/// Methods of the trait `Plugin` and the export each of them asks for.
const PHASES: [(&str, &str); 5] = [
    ("on_request", "export_request"),
    ("on_request_body", "export_request_body"),
    ("on_response", "export_response"),
    ("on_response_body", "export_response_body"),
    ("on_log", "export_log"),
];

/// Makes the component's exports from an `impl Plugin for T` block: the lifecycle and exactly the
/// phases whose methods stand in the block. A phase that is absent costs the gateway nothing.
///
/// Exports exist in a wasm build only; natively the block is left as it is, so that the crate's
/// tests run like any others. A crate can hold one plugin.
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(first) = arguments.into_iter().next() {
        return error(first.span(), "#[plugin] takes no arguments");
    }
    match exports(&item) {
        Ok(exports) => item.into_iter().chain(exports).collect(),
        Err((span, message)) => item.into_iter().chain(error(span, message)).collect(),
    }
}

/// Makes a struct or enum a plugin's config, or a part of one: it derives `Deserialize` and
/// `JsonSchema` and refuses unknown keys. Doc comments become the descriptions of the schema;
/// every `#[serde(...)]` attribute works as usual.
#[proc_macro_attribute]
pub fn config(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(first) = arguments.into_iter().next() {
        return error(first.span(), "#[config] takes no arguments");
    }
    tokens(
        r#"#[derive(::wasmgate_sdk::serde::Deserialize, ::wasmgate_sdk::schemars::JsonSchema)]
        #[serde(crate = "::wasmgate_sdk::serde", deny_unknown_fields)]
        #[schemars(crate = "::wasmgate_sdk::schemars")]"#,
    )
    .into_iter()
    .chain(item)
    .collect()
}

type Located<T> = Result<T, (Span, &'static str)>;

fn exports(item: &TokenStream) -> Located<TokenStream> {
    let tokens: Vec<TokenTree> = item.clone().into_iter().collect();
    let Some(TokenTree::Group(body)) = tokens.last() else {
        return Err((Span::call_site(), "#[plugin] stands before `impl Plugin for ...`"));
    };
    let plugin = self_type(&tokens[..tokens.len() - 1])?;
    Ok(component(&plugin, &methods(body)))
}

/// What stands between `for` and the block.
fn self_type(head: &[TokenTree]) -> Located<TokenStream> {
    let word = |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(i) if i.to_string() == word);
    if !head.iter().any(|token| word(token, "impl")) {
        return Err((Span::call_site(), "#[plugin] stands before `impl Plugin for ...`"));
    }
    match head.iter().position(|token| word(token, "for")) {
        Some(at) => Ok(head[at + 1..].iter().cloned().collect()),
        None => Err((Span::call_site(), "#[plugin] needs the trait: `impl Plugin for ...`")),
    }
}

/// Names that follow an `fn` directly inside the block.
fn methods(body: &Group) -> Vec<String> {
    let tokens: Vec<TokenTree> = body.stream().into_iter().collect();
    tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [TokenTree::Ident(word), TokenTree::Ident(name)] if word.to_string() == "fn" => {
                Some(name.to_string())
            }
            _ => None,
        })
        .collect()
}

fn component(plugin: &TokenStream, methods: &[String]) -> TokenStream {
    let mut exports = export("export_lifecycle", "plugin");
    for (method, name) in PHASES {
        if methods.iter().any(|m| m == method) {
            exports.extend(export(name, name.trim_start_matches("export_")));
        }
    }
    let mut inside = tokens("type Component =");
    inside.extend(plugin.clone());
    inside.extend(tokens(
        ";
        impl ::wasmgate_sdk::export::Component for Component {
            fn instance() -> &'static ::std::thread::LocalKey<::std::cell::OnceCell<Self>> {
                ::std::thread_local! {
                    static INSTANCE: ::std::cell::OnceCell<Component> = const { ::std::cell::OnceCell::new() };
                }
                &INSTANCE
            }
        }",
    ));
    inside.extend(exports);
    let mut all = tokens("#[cfg(target_family = \"wasm\")] const _: () =");
    all.extend([TokenTree::Group(Group::new(Delimiter::Brace, inside))]);
    all.extend(tokens(";"));
    all
}

fn export(name: &str, module: &str) -> TokenStream {
    let bindings = format!("::wasmgate_sdk::bindings::{module}");
    tokens(&format!("{bindings}::{name}!(Component with_types_in {bindings});"))
}

fn error(span: Span, message: &str) -> TokenStream {
    let mut call: Vec<TokenTree> =
        tokens(&format!("::core::compile_error! {{ {message:?} }}")).into_iter().collect();
    for token in &mut call {
        token.set_span(span);
    }
    call.into_iter().collect()
}

/// Parses text that this file wrote itself.
#[expect(clippy::expect_used, reason = "every text is a constant of this file around a method's name")]
fn tokens(source: &str) -> TokenStream {
    source.parse().expect("the macro's own text is Rust")
}
