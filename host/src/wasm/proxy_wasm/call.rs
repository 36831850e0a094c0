//! A call of a host function: the guest's memory, and what the host holds for the VM.

use wasmtime::{AsContextMut, Caller, Memory};

use super::{
    abi::{Answer, Fault, Status},
    context::{Mode, VmData},
};

pub struct Call<'a>(Caller<'a, VmData>);

impl<'a> Call<'a> {
    pub fn new(mut caller: Caller<'a, VmData>) -> Self {
        caller.data_mut().calls += 1;
        Call(caller)
    }

    pub fn data(&mut self) -> &mut VmData {
        self.0.data_mut()
    }

    /// Holds the guest to what it may do now.
    pub fn check(&mut self, allowed: impl FnOnce(Mode) -> bool) -> Answer {
        match self.data().mode {
            Mode::Running => Ok(()),
            mode if allowed(mode) => Ok(()),
            mode => Err(Fault::trap(format!("this host function may not be called while {mode:?}"))),
        }
    }

    /// The guest's memory beside the data.
    pub fn split(&mut self) -> Answer<(&mut [u8], &mut VmData)> {
        let memory = self.memory()?;
        Ok(memory.data_and_store_mut(&mut self.0))
    }

    /// A copy of the guest's bytes.
    pub fn copy(&mut self, at: u32, size: u32) -> Answer<Vec<u8>> {
        let (memory, data) = self.split()?;
        let bytes = slice(memory, at, size)?;
        data.account(size)?;
        Ok(bytes.to_vec())
    }

    /// The same, of a name or the like.
    pub fn text(&mut self, at: u32, size: u32) -> Answer<String> {
        String::from_utf8(self.copy(at, size)?).map_err(|_| Status::BadArgument.into())
    }

    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Answer {
        let (memory, _) = self.split()?;
        slice_mut(memory, at, bytes.len() as u32)?.copy_from_slice(bytes);
        Ok(())
    }

    pub fn write_u32(&mut self, at: u32, value: u32) -> Answer {
        self.write(at, &value.to_le_bytes())
    }

    pub fn write_u64(&mut self, at: u32, value: u64) -> Answer {
        self.write(at, &value.to_le_bytes())
    }

    /// Gives the guest a copy of bytes, in memory that it allocates: its address goes to `at_out`, its length
    /// to `size_out`.
    pub fn give(&mut self, bytes: &[u8], at_out: u32, size_out: u32) -> Answer {
        let fill = |_: &mut VmData, target: &mut [u8]| target.copy_from_slice(bytes);
        self.give_with(bytes.len(), at_out, size_out, fill)
    }

    /// The same, of bytes that are written where they belong.
    pub fn give_with(
        &mut self,
        size: usize,
        at_out: u32,
        size_out: u32,
        fill: impl FnOnce(&mut VmData, &mut [u8]),
    ) -> Answer {
        let size = u32::try_from(size).map_err(|_| Status::InternalFailure)?;
        let at = match size {
            // Some guests' allocators fail for nothing.
            0 => 0,
            _ => self.allocate(size)?,
        };
        let (memory, data) = self.split()?;
        data.account(size)?;
        fill(data, slice_mut(memory, at, size)?);
        self.write_u32(at_out, at)?;
        self.write_u32(size_out, size)
    }

    fn allocate(&mut self, size: u32) -> Answer<u32> {
        let data = self.data();
        let allocate = data.allocate.clone().ok_or(Status::InternalFailure)?;
        let mode = std::mem::replace(&mut data.mode, Mode::Allocating);
        let at = allocate.call(self.0.as_context_mut(), size).map_err(Fault::Trap)?;
        self.data().mode = mode;
        match at {
            0 => Err(Status::InvalidMemoryAccess.into()),
            at => Ok(at),
        }
    }

    fn memory(&mut self) -> Answer<Memory> {
        if let Some(memory) = self.data().memory {
            return Ok(memory);
        }
        // A start function runs before the exports are known.
        let memory = self.0.get_export("memory").and_then(|export| export.into_memory());
        memory.ok_or(Fault::Status(Status::InvalidMemoryAccess))
    }
}

impl VmData {
    /// Counts bytes that a host function moves; a guest that has too many moved is ended.
    pub fn account(&mut self, size: u32) -> Answer {
        let left = self.bytes_left.checked_sub(size as usize);
        self.bytes_left = left.ok_or_else(|| Fault::trap("moved more bytes than limits.host_bytes"))?;
        Ok(())
    }
}

/// Nothing can lie anywhere.
pub fn slice(memory: &[u8], at: u32, size: u32) -> Answer<&[u8]> {
    match size {
        0 => Ok(&[]),
        _ => memory.get(at as usize..at as usize + size as usize).ok_or(Status::InvalidMemoryAccess.into()),
    }
}

fn slice_mut(memory: &mut [u8], at: u32, size: u32) -> Answer<&mut [u8]> {
    match size {
        0 => Ok(&mut []),
        _ => {
            let range = at as usize..at as usize + size as usize;
            memory.get_mut(range).ok_or(Status::InvalidMemoryAccess.into())
        }
    }
}
