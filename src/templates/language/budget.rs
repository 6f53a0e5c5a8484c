//! The budget of one rendering.

use super::failure::Stop;
use super::value::Value;

/// The steps of one rendering. A step costs less than 50 ns, so that all of them stay below 10 ms.
const WORK: u32 = 150_000;
/// The steps of one condition.
const WORK_OF_CONDITION: u32 = 10_000;
/// The bytes of the values that one rendering creates; its output has a separate limit.
const MEMORY: u32 = 768 * 1024;
/// The bytes that are compared, searched or written in one step.
const BYTES_A_STEP: usize = 64;
/// The bytes whose characters are converted in one step.
const CONVERTED_A_STEP: usize = 4;
/// The steps for parsing a number of the data.
const READ_NUMBER: usize = 1;
/// The steps for an operator that loops: 1e308 % 3 takes about two microseconds.
const SLOW_ARITHMETIC: usize = 40;

/// The remaining work and memory.
#[derive(Debug)]
pub(super) struct Budget {
    work: u32,
    memory: u32,
}

impl Budget {
    pub(super) fn of_template() -> Self {
        Self { work: WORK, memory: MEMORY }
    }

    pub(super) fn of_condition() -> Self {
        Self { work: WORK_OF_CONDITION, memory: MEMORY }
    }

    /// Charges one step.
    pub(super) fn step(&mut self) -> Result<(), Stop> {
        self.steps(1)
    }

    /// Charges comparing, searching or writing `bytes` bytes.
    pub(super) fn bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.steps(bytes / BYTES_A_STEP)
    }

    /// Charges converting the characters in `bytes` bytes.
    pub(super) fn converted(&mut self, bytes: usize) -> Result<(), Stop> {
        self.steps(bytes / CONVERTED_A_STEP)
    }

    /// Charges looking up a name among others, which may be as long.
    pub(super) fn look_up(&mut self, name: &str) -> Result<(), Stop> {
        self.bytes(16 * name.len())
    }

    /// Charges parsing the digits of a number, and comparing them.
    pub(super) fn read(&mut self, value: &Value<'_>) -> Result<(), Stop> {
        match value {
            Value::Number(_) => self.steps(READ_NUMBER),
            Value::Exact(number) => self.steps(READ_NUMBER + number.as_str().len() / CONVERTED_A_STEP),
            _ => Ok(()),
        }
    }

    /// Charges a remainder or a power of floats, which may loop over an exponent.
    pub(super) fn slow_arithmetic(&mut self) -> Result<(), Stop> {
        self.steps(SLOW_ARITHMETIC)
    }

    fn steps(&mut self, steps: usize) -> Result<(), Stop> {
        let steps = u32::try_from(steps).map_err(|_| Stop::TooMuchWork)?;
        self.work = self.work.checked_sub(steps).ok_or(Stop::TooMuchWork)?;
        Ok(())
    }

    /// Charges the memory of a value of `bytes` bytes.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), Stop> {
        let bytes = u32::try_from(bytes).map_err(|_| Stop::TooMuchWork)?;
        self.memory = self.memory.checked_sub(bytes).ok_or(Stop::TooMuchWork)?;
        Ok(())
    }
}
