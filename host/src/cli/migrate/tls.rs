//! TLS of a listener. Certificates and keys stay in the files in which Envoy has them.

use serde_json::{Value, json};

use super::{output::Keys, tree::Table};

const IN_THE_CLEAR: &str =
    "TLS without a certificate and a key in files: clients are now served in the clear";

/// Keys of `tls`; none where clients are served in the clear.
pub fn listener(mut socket: Table) -> Option<Keys> {
    if socket.kind() != "DownstreamTlsContext" {
        socket.leave(IN_THE_CLEAR);
        return None;
    }
    socket.skip(&["name"]);
    let mut context = socket.table("typed_config")?;
    context.skip(&["@type"]);
    let required_at = context.at("require_client_certificate");
    let required = context.flag("require_client_certificate").unwrap_or(false);
    let common = context.table("common_tls_context");
    let Some(mut common) = common else {
        context.leave(IN_THE_CLEAR);
        return None;
    };
    let mut keys = Keys::new();
    let certificates: Vec<Value> =
        common.tables("tls_certificates").into_iter().filter_map(certificate).collect();
    if certificates.is_empty() {
        common.leave(IN_THE_CLEAR);
        return None;
    }
    keys.insert("certificates", json!(certificates));
    if let Some(mut params) = common.table("tls_params") {
        params.skip_if("tls_minimum_protocol_version", &["TLS_AUTO", "TLSv1_2"]);
        params.skip_if("tls_maximum_protocol_version", &["TLS_AUTO", "TLSv1_3"]);
        let newest =
            params.take("tls_minimum_protocol_version", |version| (version == "TLSv1_3").then_some(()));
        keys.extend(newest.map(|()| ("min_version", json!("1.3"))));
    }
    if let Some(mut validation) = common.table("validation_context") {
        let crl = file(&mut validation, "crl");
        match file(&mut validation, "trusted_ca") {
            Some(ca) => {
                let mut clients = serde_json::Map::from_iter([("ca".to_owned(), json!(ca))]);
                clients.extend(crl.map(|crl| ("crl".to_owned(), json!(crl))));
                clients.extend((!required).then(|| ("required".to_owned(), json!(false))));
                keys.insert("clients", Value::Object(clients));
            }
            None => {
                let path = validation.path().clone();
                validation
                    .notes()
                    .left(&path, "clients are not asked for a certificate: no file has the authorities");
            }
        }
    }
    if required && !keys.contains_key("clients") {
        context.notes().left(&required_at, "clients without a certificate are let in, too");
    }
    // What is spoken in it is the listener's to know.
    common.skip(&["alpn_protocols"]);
    Some(keys)
}

fn certificate(mut table: Table) -> Option<Value> {
    let (cert, key) = (file(&mut table, "certificate_chain"), file(&mut table, "private_key"));
    match (cert, key) {
        (Some(cert), Some(key)) => Some(json!({ "cert": cert, "key": key })),
        _ => {
            table.leave("a certificate or a key that is in no file");
            None
        }
    }
}

/// The name of the file of a `DataSource`.
fn file(table: &mut Table, name: &str) -> Option<String> {
    table.table(name)?.text("filename").filter(|file| !file.is_empty())
}
