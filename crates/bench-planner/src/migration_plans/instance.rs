//! mVM's plans: where every VM is, where it goes, and the published schedule.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Rates of the hosts' links in the published plans, in Mbit/s, by host.
const MBIT: [u64; 4] = [500, 500, 1000, 1000];

/// A plan.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) hosts: Vec<Host>,
    pub(crate) vms: BTreeMap<u64, Vm>,
    /// The published schedule.
    pub(crate) actions: Vec<Action>,
    document: Value,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Free of each resource at the beginning.
    pub(crate) free: Vec<i64>,
    /// Rate of its link, each way.
    pub(crate) mbit: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Vm {
    /// Of each resource.
    pub(crate) needs: Vec<i64>,
    used: f64,
    dirty_rate: f64,
    most_dirty: f64,
    most_dirty_seconds: f64,
}

/// One migration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Action {
    pub(crate) vm: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Seconds.
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) mbit: u64,
}

impl Vm {
    /// How long a migration takes, in seconds, by mVM's model; `None` where it does
    /// not end.
    pub(crate) fn seconds(&self, mbit: u64) -> Option<f64> {
        let rate = mbit as f64 / 9.0;
        let mut time = self.used / rate;
        if time > self.most_dirty_seconds {
            let hot = self.most_dirty / self.most_dirty_seconds;
            if rate <= hot || rate <= self.dirty_rate {
                return None;
            }
            let dirtied = (time - self.most_dirty_seconds) * self.dirty_rate;
            time += (self.most_dirty + dirtied) / (rate - self.dirty_rate);
            time += self.most_dirty / rate * (hot / (rate - hot));
        }
        Some(time)
    }
}

impl Instance {
    /// Reads a plan.
    ///
    /// # Errors
    /// The file is malformed.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let document: Value = serde_json::from_slice(bytes)?;
        let views = document.pointer("/origin/views").and_then(Value::as_array);
        let views: Vec<&Value> = views.context("no views")?.iter().collect();
        let mut hosts = Vec::new();
        let nodes = object(&document, "/origin/mapping/onlineNodes")?;
        for host in 0..nodes.len() {
            let free = views.iter().map(|v| integer(v, &format!("/nodes/{host}")));
            let mbit = *MBIT.get(host).context("more than four hosts")?;
            hosts.push(Host { free: free.collect::<Result<_>>()?, mbit });
        }
        let mut vms = BTreeMap::new();
        for (name, vm) in object(&document, "/origin/attributes/vms")? {
            let needs = views.iter().map(|v| integer(v, &format!("/vms/{name}")));
            let vm = Vm {
                needs: needs.collect::<Result<_>>()?,
                used: number(vm, "/memUsed")?,
                dirty_rate: number(vm, "/dirtyRate")?,
                most_dirty: number(vm, "/maxDirtySize")?,
                most_dirty_seconds: number(vm, "/maxDirtyDuration")?,
            };
            vms.insert(name.parse()?, vm);
        }
        for (host, node) in nodes {
            let host: usize = host.parse()?;
            let running = node.pointer("/runningVMs").and_then(Value::as_array);
            for vm in running.context("no runningVMs")? {
                let vm = vm.as_u64().and_then(|vm| vms.get(&vm)).context("an unknown VM runs")?;
                let host = hosts.get_mut(host).context("a host without capacity")?;
                host.free.iter_mut().zip(&vm.needs).for_each(|(free, needs)| *free -= needs);
            }
        }
        let list = document.pointer("/actions").and_then(Value::as_array).context("no actions")?;
        let actions: Vec<Action> = list.iter().map(action).collect::<Result<_>>()?;
        for a in &actions {
            ensure!(vms.contains_key(&a.vm), "an unknown VM moves");
            ensure!(a.from.max(a.to) < hosts.len(), "a VM moves to an unknown host");
        }
        Ok(Self { hosts, vms, actions, document })
    }

    /// The plan's file with other actions.
    pub(crate) fn with(&self, actions: &[Action]) -> Value {
        let mut document = self.document.clone();
        let list = actions.iter().map(|a| {
            json!({
                "id": "migrateVM", "vm": a.vm, "from": a.from, "to": a.to, "bw": a.mbit,
                "start": a.start, "end": a.end, "hooks": { "pre": [], "post": [] },
            })
        });
        document["actions"] = list.collect();
        document
    }
}

fn action(value: &Value) -> Result<Action> {
    let whole = |key: &str| integer(value, key).and_then(|n| Ok(u64::try_from(n)?));
    Ok(Action {
        vm: whole("/vm")?,
        from: usize::try_from(whole("/from")?)?,
        to: usize::try_from(whole("/to")?)?,
        start: number(value, "/start")?,
        end: number(value, "/end")?,
        mbit: whole("/bw")?,
    })
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a serde_json::Map<String, Value>> {
    value.pointer(path).and_then(Value::as_object).with_context(|| format!("no {path}"))
}

fn integer(value: &Value, path: &str) -> Result<i64> {
    value.pointer(path).and_then(Value::as_i64).with_context(|| format!("no number {path}"))
}

fn number(value: &Value, path: &str) -> Result<f64> {
    value.pointer(path).and_then(Value::as_f64).with_context(|| format!("no number {path}"))
}
