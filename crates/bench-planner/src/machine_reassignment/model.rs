//! The ROADEF/EURO Challenge 2012's files, as published.

use anyhow::{Context, Result, bail, ensure};

/// A model file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) resources: Vec<Resource>,
    pub(crate) machines: Vec<Machine>,
    /// Cost of moving a process from one machine to another, row by row.
    pub(crate) machine_move: Vec<u32>,
    pub(crate) services: Vec<Service>,
    pub(crate) processes: Vec<Process>,
    pub(crate) balances: Vec<Balance>,
    pub(crate) weights: Weights,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource {
    /// A moved process needs it on both machines.
    pub(crate) transient: bool,
    /// Of load above the safety capacity.
    pub(crate) weight: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) neighbourhood: u32,
    pub(crate) location: u32,
    pub(crate) capacity: Vec<i64>,
    pub(crate) safety: Vec<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// At least so many locations.
    pub(crate) spread: u32,
    /// Services that must be present in the neighbourhood of each process.
    pub(crate) needs: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) service: u32,
    pub(crate) requirement: Vec<i64>,
    pub(crate) move_cost: i64,
}

/// Of two resources' free amounts `target` × the first should not exceed the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) target: i64,
    pub(crate) weight: i64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weights {
    pub(crate) process_move: i64,
    pub(crate) service_move: i64,
    pub(crate) machine_move: i64,
}

/// Numbers separated by white space.
struct Numbers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Numbers<'_> {
    fn next(&mut self, what: &str) -> Result<i64> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        let from = self.at;
        let mut value = 0i64;
        while let Some(digit) = self.bytes.get(self.at).filter(|b| b.is_ascii_digit()) {
            value = value
                .checked_mul(10)
                .and_then(|v| v.checked_add(i64::from(digit - b'0')))
                .with_context(|| format!("byte {from}: {what} is too large"))?;
            self.at += 1;
        }
        let ends = self.bytes.get(self.at).is_none_or(u8::is_ascii_whitespace);
        ensure!(self.at > from && ends, "byte {from}: {what} is not a whole number");
        Ok(value)
    }

    fn index(&mut self, what: &str, below: usize) -> Result<usize> {
        let value = usize::try_from(self.next(what)?)?;
        ensure!(value < below, "byte {}: {what} {value} is not below {below}", self.at);
        Ok(value)
    }

    /// A count; each thing that is counted has at least one digit in the file.
    fn count(&mut self, what: &str) -> Result<usize> {
        self.index(what, self.bytes.len() + 1)
    }

    fn small(&mut self, what: &str) -> Result<u32> {
        u32::try_from(self.next(what)?).with_context(|| format!("{what} is too large"))
    }

    fn amounts(&mut self, what: &str, count: usize) -> Result<Vec<i64>> {
        (0..count).map(|_| self.next(what)).collect()
    }
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// What is malformed, and where.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut n = Numbers { bytes, at: 0 };
        let mut model = Self::default();
        for _ in 0..n.count("the number of resources")? {
            let transient = n.index("transient", 2)? == 1;
            model.resources.push(Resource { transient, weight: n.next("a load cost's weight")? });
        }
        let machines = n.count("the number of machines")?;
        for _ in 0..machines {
            let machine = Machine {
                neighbourhood: n.small("a neighbourhood")?,
                location: n.small("a location")?,
                capacity: n.amounts("a capacity", model.resources.len())?,
                safety: n.amounts("a safety capacity", model.resources.len())?,
            };
            model.machines.push(machine);
            for _ in 0..machines {
                model.machine_move.push(n.small("a machine move cost")?);
            }
        }
        let services = n.count("the number of services")?;
        for _ in 0..services {
            let spread = n.small("a minimal spread")?;
            let needs = (0..n.count("the number of dependencies")?)
                .map(|_| Ok(n.index("a dependency", services)? as u32))
                .collect::<Result<_>>()?;
            model.services.push(Service { spread, needs });
        }
        for _ in 0..n.count("the number of processes")? {
            let service = n.index("a service", services)? as u32;
            let requirement = n.amounts("a requirement", model.resources.len())?;
            let move_cost = n.next("a process move cost")?;
            model.processes.push(Process { service, requirement, move_cost });
        }
        for _ in 0..n.count("the number of balance costs")? {
            let first = n.index("a resource", model.resources.len())?;
            let second = n.index("a resource", model.resources.len())?;
            let target = n.next("a balance's target")?;
            let weight = n.next("a balance's weight")?;
            model.balances.push(Balance { first, second, target, weight });
        }
        model.weights = Weights {
            process_move: n.next("the weight of process moves")?,
            service_move: n.next("the weight of service moves")?,
            machine_move: n.next("the weight of machine moves")?,
        };
        Ok(model)
    }

    /// Reads an assignment file: the machine of each process.
    ///
    /// # Errors
    /// What is malformed, and where.
    pub(crate) fn read_assignment(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        let mut n = Numbers { bytes, at: 0 };
        let assignment: Vec<u32> = (0..self.processes.len())
            .map(|_| Ok(n.index("a machine", self.machines.len())? as u32))
            .collect::<Result<_>>()?;
        if bytes[n.at..].iter().any(|b| !b.is_ascii_whitespace()) {
            bail!("more machines than the model has processes");
        }
        Ok(assignment)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The example of the challenge's subject, shortened: 2 resources, 2 machines,
    /// 2 services, 3 processes, 1 balance.
    pub(crate) const SMALL: &str = "2 1 100 0 10
        2 0 0 30 400 16 80 0 1  0 1 10 240 8 160 1 0
        2 2 0  1 1 0
        3 0 12 10 1000  0 10 20 100  1 6 200 1
        1 0 1 20 10
        1 10 100";

    #[test]
    fn a_model_and_an_assignment_are_read() {
        let model = Model::read(SMALL.as_bytes()).unwrap();
        assert_eq!((model.machines.len(), model.processes.len()), (2, 3));
        assert_eq!(model.machines[1].location, 1);
        assert_eq!(model.services[1].needs, [0]);
        assert_eq!(model.weights.machine_move, 100);
        assert_eq!(model.read_assignment(b"0 1 0\n").unwrap(), [0, 1, 0]);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let model = Model::read(SMALL.as_bytes()).unwrap();
        for (text, word) in
            [("0 1", "whole number"), ("0 1 2", "not below"), ("0 1 0 0", "more"), ("0 1 x", "not")]
        {
            let told = model.read_assignment(text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(word), "{text}: {told}");
        }
        for cut in 0..SMALL.len() - 6 {
            assert!(Model::read(&SMALL.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        let vast = Model::read(b"99999999999999999999").unwrap_err().to_string();
        assert!(vast.contains("too large"), "{vast}");
    }
}
