//! The message that the rules change: the request, or its response once there is one. It knows the
//! headers of both and nothing of the rules.

use wasmgate_sdk::{HostError, Request, Response};

pub struct Message<'a> {
    pub request: &'a Request<'a>,
    /// The message, where there is one; otherwise the request is.
    pub response: Option<&'a Response<'a>>,
}

type Changed = Result<(), HostError>;

impl Message<'_> {
    /// What a refused change means. The client answers for its request; an upstream's response is
    /// worth more than a header, and what does not fit into it is left out.
    pub fn settle(&self, change: Changed) -> Changed {
        match change {
            Err(HostError::InvalidValue | HostError::TooLarge) if self.response.is_some() => Ok(()),
            other => other,
        }
    }

    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        match self.response {
            Some(response) => response.header(name),
            None => self.request.header(name),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.header(name).is_some()
    }

    pub fn set(&self, name: &str, value: &[u8]) -> Changed {
        match self.response {
            Some(response) => response.set_header(name, value),
            None => self.request.set_header(name, value),
        }
    }

    pub fn append(&self, name: &str, value: &[u8]) -> Changed {
        match self.response {
            Some(response) => response.append_header(name, value),
            None => self.request.append_header(name, value),
        }
    }

    pub fn remove(&self, name: &str) -> Changed {
        match self.response {
            Some(response) => response.remove_header(name).map(drop),
            None => self.request.remove_header(name).map(drop),
        }
    }

    /// The old values go last, so that they stay where the new ones are refused.
    pub fn rename(&self, old: &str, new: &str) -> Changed {
        let values = self.all(old);
        let Some((first, rest)) = values.split_first() else {
            return Ok(());
        };
        self.set(new, first)?;
        rest.iter().try_for_each(|value| self.append(new, value))?;
        self.remove(old)
    }

    fn all(&self, name: &str) -> Vec<Vec<u8>> {
        match self.response {
            Some(response) => response.header_all(name),
            None => self.request.header_all(name),
        }
    }
}
