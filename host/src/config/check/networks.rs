//! Sets of addresses and networks: those in the config, those in files, and which plugins may ask them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use wasmgate_networks::{Entry, Network};

use super::{Check, KeyPath, NETWORK, Section, raw};
use crate::config::{
    Networks, Stamp,
    networks::{HostBits, MadeOf, read_list},
};

impl Check<'_> {
    pub(super) fn network_sets(
        &mut self,
        section: Section<BTreeMap<String, Section<raw::Networks>>>,
    ) -> Vec<Networks> {
        let path = KeyPath::root().key("networks");
        let mut sets = Vec::new();
        for (name, section) in self.or_default(&path, section) {
            let path = path.key(&name);
            if let Some(raw) = self.section(&path, section) {
                sets.push(self.network_set(&path, name.into(), raw));
            }
        }
        sets
    }

    fn network_set(&mut self, path: &KeyPath, name: Arc<str>, raw: raw::Networks) -> Networks {
        if raw.entries.is_none() && raw.file.is_none() && !self.has_problem_within(path) {
            self.fault(path, "expected `entries` or `file`, or both");
        }
        // Noted before it is read, so that a later change shows.
        let file = raw.file.map(|file| {
            let file = self.file_path(&file);
            self.read_files.note(file.clone());
            let stamp = Some(Stamp::of(&file)).filter(Stamp::is_settled);
            (file, stamp)
        });
        let made_of = MadeOf { entries: raw.entries.unwrap_or_default(), file };
        let known = self.known.iter().find(|known| known.name == name && known.made_of.is_still(&made_of));
        if let Some(known) = known {
            return known.clone();
        }
        let (mut networks, mut host_bits) = (Vec::new(), HostBits::default());
        self.listed(&path.key("entries"), &made_of.entries, &mut networks, &mut host_bits);
        if let Some((file, _)) = &made_of.file {
            self.in_file(&path.key("file"), file, &mut networks, &mut host_bits);
        }
        Networks { name, set: Arc::new(networks.into_iter().collect()), made_of, host_bits }
    }

    fn listed(
        &mut self,
        path: &KeyPath,
        texts: &[String],
        into: &mut Vec<Network>,
        host_bits: &mut HostBits,
    ) {
        let read =
            |text: &str| Entry::read(text).ok_or_else(|| format!("expected {NETWORK}, found {text:?}"));
        for (i, text) in texts.iter().enumerate() {
            let path = path.index(i);
            if let Some(entry) = self.parsed(&path, text, NETWORK, read) {
                host_bits.note(&entry, || format!("{path}: {}", self.shown(&path, text)));
                into.push(entry.network);
            }
        }
    }

    fn in_file(&mut self, path: &KeyPath, file: &Path, into: &mut Vec<Network>, host_bits: &mut HostBits) {
        let name =
            if self.source.is_hidden(path) { "(hidden)".to_owned() } else { file.display().to_string() };
        let text = fs::read(file).map_err(|error| format!("{name} cannot be read: {error}"));
        if let Err(reason) = text.and_then(|text| read_list(&name, &text, into, host_bits)) {
            self.fault(path, reason);
        }
    }
}
