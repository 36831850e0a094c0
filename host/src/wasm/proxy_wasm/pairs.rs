//! Lists of pairs as they cross the border: a count, the lengths, then names and values, each with a NUL
//! behind it.

/// Larger maps from a guest are taken for empty ones, as in Envoy.
const MAX_BYTES: usize = 1 << 20;
const MAX_PAIRS: usize = 1024;

/// Of an empty list: nothing at all.
pub fn encode<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Vec<u8> {
    let (count, bytes) =
        pairs.clone().fold((0, 4), |(count, bytes), (k, v)| (count + 1, bytes + 8 + k.len() + v.len() + 2));
    if count == 0 {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(bytes);
    out.extend_from_slice(&u32::to_le_bytes(count));
    for (name, value) in pairs.clone() {
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
    out
}

/// What is malformed in any way is an empty list.
pub fn decode(bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    let fits = bytes.len() <= MAX_BYTES;
    fits.then(|| try_decode(bytes)).flatten().unwrap_or_default()
}

fn try_decode(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = u32::from_le_bytes(*count) as usize;
    if count > MAX_PAIRS {
        return None;
    }
    let (lengths, mut data) = rest.split_at_checked(count * 8)?;
    let mut pairs = Vec::with_capacity(count);
    for lengths in lengths.chunks_exact(8) {
        let (name, value) = lengths.split_first_chunk::<4>()?;
        let name = text(&mut data, u32::from_le_bytes(*name))?;
        let value = text(&mut data, u32::from_le_bytes(value.try_into().ok()?))?;
        pairs.push((name, value));
    }
    data.is_empty().then_some(pairs)
}

fn text<'a>(data: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (text, rest) = data.split_at_checked(length as usize)?;
    let (nul, rest) = rest.split_first()?;
    *data = rest;
    (*nul == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_as_the_specification_has_it() {
        let list: [(&[u8], &[u8]); 2] = [(b"k", b"v1"), (b"", b"")];
        let bytes = encode(list.iter().copied());
        assert_eq!(bytes, b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0k\0v1\0\0\0");
        assert_eq!(decode(&bytes), list);
        assert!(encode(std::iter::empty()).is_empty());
    }

    #[test]
    fn what_is_malformed_is_empty() {
        let good = encode([(&b"key"[..], &b"value"[..])].into_iter());
        assert!(decode(&[]).is_empty() && decode(&[0]).is_empty() && decode(&[0; 4]).is_empty());
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_empty(), "{length}");
        }
        assert!(decode(&[&good[..], b"x"].concat()).is_empty(), "bytes are left");
        let mut bad = good.clone();
        bad[15] = b'x';
        assert!(decode(&bad).is_empty(), "no NUL behind the name");
        assert!(decode(&u32::MAX.to_le_bytes()).is_empty());
        assert!(decode(&encode((0..1025).map(|_| (&b"k"[..], &b"v"[..])))).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_list_comes_back(list: Vec<(Vec<u8>, Vec<u8>)>) {
            let bytes = encode(list.iter().map(|(k, v)| (&k[..], &v[..])));
            let back: Vec<_> = decode(&bytes).iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            proptest::prop_assert_eq!(back, list);
        }

        #[test]
        fn any_bytes_are_decoded(bytes: Vec<u8>) {
            decode(&bytes);
        }
    }
}
