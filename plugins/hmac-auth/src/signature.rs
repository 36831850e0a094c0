//! HTTP Message Signatures (RFC 9421), read strictly: one signature, each component once, nothing that is not understood.

use std::{convert::Infallible, fmt};

use sfv::{
    BareItem, Dictionary, FieldType, InnerList, KeyRef, ListEntry, Parser, Version,
    visitor::{DictionaryVisitor, EntryVisitor},
};
use wasmgate_sdk::Request;

use crate::signed::{Algorithm, Fault, MAX_COMPONENTS, MAX_FIELD, Message, Signed};

/// The request's signature with this tag, or with any where none is asked for; none where it has none.
pub fn read(message: &Message, tag: Option<&str>, default: Algorithm) -> Result<Option<Signed>, Fault> {
    let [input, signature] = ["signature-input", "signature"].map(|name| lines(message.request, name));
    let (input, signature) = match (input?, signature?) {
        (None, None) => return Ok(None),
        (Some(input), Some(signature)) => (input, signature),
        _ => return Err("Signature and Signature-Input belong together"),
    };
    let inputs = dictionary(&input).ok_or("Signature-Input is no dictionary")?;
    let signatures = dictionary(&signature).ok_or("Signature is no dictionary")?;
    let is_meant = |entry: &ListEntry| match (tag, entry) {
        (Some(tag), ListEntry::InnerList(list)) => text(list, "tag") == Ok(Some(tag)),
        (tag, _) => tag.is_none(),
    };
    let mut meant = inputs.into_iter().filter(|(_, entry)| is_meant(entry));
    let Some((label, entry)) = meant.next() else {
        return if tag.is_some() { Ok(None) } else { Err("Signature-Input is empty") };
    };
    if meant.next().is_some() {
        return Err("there is more than one signature");
    }
    let ListEntry::InnerList(list) = entry else { return Err("Signature-Input holds no list") };
    let Some(ListEntry::Item(signature)) = signatures.get(&*label) else {
        return Err("a signature is not there");
    };
    let signature = signature.bare_item.as_byte_sequence().ok_or("the signature is no bytes")?;
    signed(message, list, signature.to_vec(), default).map(Some)
}

fn signed(
    message: &Message,
    list: InnerList,
    signature: Vec<u8>,
    default: Algorithm,
) -> Result<Signed, Fault> {
    let covered = components(&list)?;
    let mut base = Vec::new();
    for name in &covered {
        let value = message.component(name).ok_or("a signed component is not there")?;
        base.extend(format!("\"{name}\": ").bytes());
        base.extend(value);
        base.push(b'\n');
    }
    let algorithm = match text(&list, "alg")? {
        Some(name) => Algorithm::from_name(name).ok_or("the algorithm is not known")?,
        None => default,
    };
    let signed = Signed {
        id: text(&list, "keyid")?.ok_or("keyid is not there")?.to_string(),
        algorithm,
        signature,
        texts: Vec::new(),
        covered,
        legacy: false,
        created: time(&list, "created")?.ok_or("created is not there")?,
        expires: time(&list, "expires")?,
        nonce: text(&list, "nonce")?.map(str::to_string),
    };
    let params = vec![ListEntry::InnerList(list)].serialize().ok_or("Signature-Input is empty")?;
    base.extend(format!("\"@signature-params\": {params}").bytes());
    Ok(Signed { texts: vec![base], ..signed })
}

/// Parameters of components (sf, key, bs, req, tr) are not understood, so they cannot be met.
fn components(list: &InnerList) -> Result<Vec<String>, Fault> {
    let mut covered: Vec<String> = Vec::new();
    for item in &list.items {
        let name = item.bare_item.as_string().ok_or("a component's name is no text")?.as_str();
        if !item.params.is_empty() {
            return Err("a component has parameters");
        }
        if name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'"') {
            return Err("a component's name is not in lower case");
        }
        if covered.iter().any(|covered| covered == name) {
            return Err("a component is signed twice");
        }
        if covered.len() == MAX_COMPONENTS {
            return Err("too many components are signed");
        }
        covered.push(name.to_string());
    }
    Ok(covered)
}

fn text<'a>(list: &'a InnerList, name: &str) -> Result<Option<&'a str>, Fault> {
    match list.params.get(name) {
        None => Ok(None),
        Some(value) => value.as_string().map(|text| Some(text.as_str())).ok_or("a parameter is no text"),
    }
}

fn time(list: &InnerList, name: &str) -> Result<Option<i64>, Fault> {
    match list.params.get(name).map(BareItem::as_integer) {
        None => Ok(None),
        Some(value) => value.map(|time| Some(time.into())).ok_or("a time is no whole number"),
    }
}

/// All lines of a header as one.
fn lines(request: &Request, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let lines = request.header_all(name);
    match lines.iter().map(Vec::len).sum::<usize>() > MAX_FIELD {
        true => Err("the signature is too long"),
        false => Ok((!lines.is_empty()).then(|| lines.join(&b", "[..]))),
    }
}

/// A dictionary (RFC 8941, section 3.2) in which no key stands twice.
pub fn dictionary(text: &[u8]) -> Option<Dictionary> {
    let parser = Parser::new(text).with_version(Version::Rfc8941);
    parser.parse_dictionary_with_visitor(Unique(Dictionary::new())).ok()
}

struct Unique(Dictionary);

#[derive(Debug)]
struct Twice;

impl<'de> DictionaryVisitor<'de> for Unique {
    type Out = Dictionary;
    type Error = Twice;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Twice> {
        if self.0.contains_key(key) {
            return Err(Twice);
        }
        DictionaryVisitor::entry(&mut self.0, key).map_err(|never: Infallible| match never {})
    }

    fn finish(self) -> Result<Dictionary, Twice> {
        Ok(self.0)
    }
}

impl fmt::Display for Twice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key stands twice")
    }
}

impl std::error::Error for Twice {}
