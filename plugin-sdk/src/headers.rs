//! The calls for headers and trailers that a request and a response have alike, written once.

/// Puts these methods into the impl of a type with a field `raw`.
macro_rules! header_methods {
    ($message:literal) => {
        /// First value of a header; names match in any case.
        ///
        /// ```
        #[doc = concat!("fn etag(message: &wasmgate_sdk::", $message, ") -> Option<Vec<u8>> {")]
        ///     message.header("etag")
        /// }
        /// ```
        pub fn header(&self, name: &str) -> Option<Vec<u8>> {
            self.raw.header(name)
        }

        /// First value of a header as text; none where it is not UTF-8.
        ///
        /// ```
        #[doc = concat!("fn is_json(message: &wasmgate_sdk::", $message, ") -> bool {")]
        ///     message.header_str("content-type").is_some_and(|t| t.starts_with("application/json"))
        /// }
        /// ```
        pub fn header_str(&self, name: &str) -> Option<String> {
            self.header(name).and_then(|value| String::from_utf8(value).ok())
        }

        /// All values of a header, in order.
        ///
        /// ```
        #[doc = concat!("fn lines(message: &wasmgate_sdk::", $message, ") -> usize {")]
        ///     message.header_all("via").len()
        /// }
        /// ```
        pub fn header_all(&self, name: &str) -> Vec<Vec<u8>> {
            self.raw.header_all(name)
        }

        /// First values of several headers in one crossing to the host, in the order of the names.
        ///
        /// ```
        #[doc = concat!("fn validators(message: &wasmgate_sdk::", $message, ") -> bool {")]
        ///     let [etag, modified] = message.headers(["etag", "last-modified"]);
        ///     etag.is_some() || modified.is_some()
        /// }
        /// ```
        pub fn headers<const N: usize>(&self, names: [&str; N]) -> [Option<Vec<u8>>; N] {
            let mut values = self.raw.headers(&names).into_iter();
            std::array::from_fn(|_| values.next().flatten())
        }

        /// A copy of all headers, names in lower case. Expensive: prefer the calls above.
        ///
        /// ```
        #[doc = concat!("fn size(message: &wasmgate_sdk::", $message, ") -> usize {")]
        ///     message.all_headers().iter().map(|(name, value)| name.len() + value.len()).sum()
        /// }
        /// ```
        pub fn all_headers(&self) -> Vec<(String, Vec<u8>)> {
            self.raw.headers_copy()
        }

        /// Replaces all values of a header.
        ///
        /// Errors: `InvalidName`, `InvalidValue`, `TooLarge` (name and value above 16 KiB, or more
        /// than 256 header lines), `Forbidden` (framing and connection headers, Host), `Immutable`.
        ///
        /// ```
        #[doc = concat!("fn mark(message: &wasmgate_sdk::", $message, ") -> wasmgate_sdk::Result<()> {")]
        ///     message.set_header("x-seen", "1")?;
        ///     Ok(())
        /// }
        /// ```
        pub fn set_header(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HostError> {
            Ok(self.raw.set_header(name, value.as_ref())?)
        }

        /// Adds a value after the others. Errors as for [`set_header`](Self::set_header).
        ///
        /// ```
        #[doc = concat!("fn via(message: &wasmgate_sdk::", $message, ") -> wasmgate_sdk::Result<()> {")]
        ///     message.append_header("via", "1.1 gate")?;
        ///     Ok(())
        /// }
        /// ```
        pub fn append_header(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HostError> {
            Ok(self.raw.append_header(name, value.as_ref())?)
        }

        /// Removes all values of a header; false where there was none. Errors: `InvalidName`,
        /// `Forbidden`, `Immutable`.
        ///
        /// ```
        #[doc = concat!("fn strip(message: &wasmgate_sdk::", $message, ") -> wasmgate_sdk::Result<()> {")]
        ///     message.remove_header("x-internal")?;
        ///     Ok(())
        /// }
        /// ```
        pub fn remove_header(&self, name: &str) -> Result<bool, HostError> {
            Ok(self.raw.remove_header(name)?)
        }

        /// A copy of all trailers, the fields that come after the body (RFC 9110, section 6.5), names
        /// in lower case. They are there in the body phase's call with `end`, those of a response also
        /// afterwards.
        ///
        /// ```
        #[doc = concat!("fn digest(message: &wasmgate_sdk::", $message, ") -> Option<Vec<u8>> {")]
        ///     let trailers = message.trailers();
        ///     trailers.into_iter().find_map(|(name, value)| (name == "content-digest").then_some(value))
        /// }
        /// ```
        pub fn trailers(&self) -> Vec<(String, Vec<u8>)> {
            self.raw.trailers()
        }

        /// Replaces all values of a trailer. Fields that frame, route or prove something are not sent
        /// as trailers, and to an HTTP/1.1 peer only those are that the header `trailer` announces.
        ///
        /// Errors: as for [`set_header`](Self::set_header); `Immutable` but in the body phase's call
        /// with `end`.
        ///
        /// ```
        #[doc = concat!("fn end(message: &wasmgate_sdk::", $message, ") -> wasmgate_sdk::Result<()> {")]
        ///     message.set_trailer("x-checked", "1")?;
        ///     Ok(())
        /// }
        /// ```
        pub fn set_trailer(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HostError> {
            Ok(self.raw.set_trailer(name, value.as_ref())?)
        }

        /// Removes all values of a trailer; false where there was none. Errors: `InvalidName`,
        /// `Forbidden`, `Immutable` as for [`set_trailer`](Self::set_trailer).
        ///
        /// ```
        #[doc = concat!("fn hide(message: &wasmgate_sdk::", $message, ") -> wasmgate_sdk::Result<()> {")]
        ///     message.remove_trailer("server-timing")?;
        ///     Ok(())
        /// }
        /// ```
        pub fn remove_trailer(&self, name: &str) -> Result<bool, HostError> {
            Ok(self.raw.remove_trailer(name)?)
        }
    };
}

pub(crate) use header_methods;
