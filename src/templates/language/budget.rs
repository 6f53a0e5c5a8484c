//! The cost of one rendering.

use super::evaluate::Stop;
use super::value::Value;

/// Steps of one rendering. A step costs less than 50 ns, so that all of them stay below 10 ms.
const WORK: u32 = 150_000;
/// Steps of one condition.
const WORK_OF_CONDITION: u32 = 10_000;
/// Bytes of the values that one rendering makes; its output has a bound of its own.
const MEMORY: u32 = 768 * 1024;
/// Bytes that are compared, searched or written in one step.
const BYTES_A_STEP: usize = 64;
/// Bytes whose characters are converted in one step.
const CONVERTED_A_STEP: usize = 4;
/// Steps of reading a number of the data.
const READ_NUMBER: usize = 1;
/// Steps of an operator that loops: 1e308 % 3 takes about two microseconds.
const SLOW_ARITHMETIC: usize = 40;

/// The work and the memory that are left.
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

    /// Pays for one step.
    pub(super) fn step(&mut self) -> Result<(), Stop> {
        self.steps(1)
    }

    /// Pays for comparing, searching or writing so many bytes.
    pub(super) fn bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.steps(bytes / BYTES_A_STEP)
    }

    /// Pays for converting the characters in so many bytes.
    pub(super) fn converted(&mut self, bytes: usize) -> Result<(), Stop> {
        self.steps(bytes / CONVERTED_A_STEP)
    }

    /// Pays for looking up a name among others, which may be as long.
    pub(super) fn look_up(&mut self, name: &str) -> Result<(), Stop> {
        self.bytes(16 * name.len())
    }

    /// Pays for reading the digits of a number, and for comparing them.
    pub(super) fn read(&mut self, value: &Value<'_>) -> Result<(), Stop> {
        match value {
            Value::Number(_) => self.steps(READ_NUMBER),
            Value::Exact(number) => self.steps(READ_NUMBER + number.as_str().len() / CONVERTED_A_STEP),
            _ => Ok(()),
        }
    }

    /// Pays for a remainder or a power of floats, which may take a loop over an exponent.
    pub(super) fn slow_arithmetic(&mut self) -> Result<(), Stop> {
        self.steps(SLOW_ARITHMETIC)
    }

    fn steps(&mut self, steps: usize) -> Result<(), Stop> {
        let steps = u32::try_from(steps).map_err(|_| Stop::TooMuchWork)?;
        self.work = self.work.checked_sub(steps).ok_or(Stop::TooMuchWork)?;
        Ok(())
    }

    /// Pays for a value of so many bytes.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), Stop> {
        let bytes = u32::try_from(bytes).map_err(|_| Stop::TooMuchWork)?;
        self.memory = self.memory.checked_sub(bytes).ok_or(Stop::TooMuchWork)?;
        Ok(())
    }
}
