//! Ganeti's text format (htools(1), "text backend"), and hbal's score of a cluster
//! counted from its definition (hbal(1), "cluster scoring"; the weights as
//! `hbal -v -v` prints them).

use std::fmt;

use anyhow::{Context, Result, ensure};

/// Disk templates whose instances can go to any node.
const SHARED: [&str; 5] = ["ext", "rbd", "sharedfile", "gluster", "diskless"];

/// A cluster; lines that nothing needs are kept as they are.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    groups: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) instances: Vec<Instance>,
    rest: Vec<String>,
    /// Virtual processors promised for each real one, at most.
    vcpu_ratio: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// MiB.
    pub(crate) memory: i64,
    pub(crate) free_memory: i64,
    pub(crate) cpus: i64,
    fields: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// MiB.
    pub(crate) memory: i64,
    pub(crate) vcpus: i64,
    /// Name of its node.
    pub(crate) node: String,
    fields: Vec<String>,
}

impl Node {
    /// Whether it takes instances: `Y` stands for offline.
    pub(crate) fn open(&self) -> bool {
        self.fields[7] != "Y"
    }
}

impl Cluster {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not in the format.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut sections = text.split("\n\n");
        let groups = sections.next().context("no groups")?.to_owned();
        let lines = |section: Option<&str>| -> Vec<Vec<String>> {
            let lines = section.unwrap_or_default().lines().filter(|l| !l.is_empty());
            lines.map(|l| l.split('|').map(str::to_owned).collect()).collect()
        };
        let number = |fields: &[String], at: usize| -> Result<i64> {
            let text = fields.get(at).with_context(|| format!("no field {}", at + 1))?;
            text.parse().with_context(|| format!("{text:?} is no whole number"))
        };
        let mut nodes = Vec::new();
        for fields in lines(sections.next()) {
            ensure!(fields.len() >= 8, "node {:?} has too few fields", fields.first());
            nodes.push(Node {
                name: fields[0].clone(),
                memory: number(&fields, 1)?,
                free_memory: number(&fields, 3)?,
                cpus: number(&fields, 6)?,
                fields,
            });
        }
        let mut instances = Vec::new();
        for fields in lines(sections.next()) {
            ensure!(fields.len() >= 9, "instance {:?} has too few fields", fields.first());
            let node = fields[6].clone();
            ensure!(nodes.iter().any(|n| n.name == node), "{node} is no node");
            instances.push(Instance {
                memory: number(&fields, 1)?,
                vcpus: number(&fields, 3)?,
                node,
                fields,
            });
        }
        let rest: Vec<String> = sections.map(str::to_owned).collect();
        // The cluster's own policy: no group's name, and the ratio its last but one.
        let policy = rest.iter().flat_map(|s| s.lines()).find(|l| l.starts_with('|'));
        let ratio = policy.and_then(|l| l.rsplit('|').nth(1)).and_then(|r| r.parse().ok());
        Ok(Self { groups, nodes, instances, rest, vcpu_ratio: ratio.unwrap_or(4.0) })
    }

    /// Why the cluster's rules are not all known here.
    pub(crate) fn unsupported(&self) -> Option<String> {
        let shared = |i: &&Instance| SHARED.contains(&i.fields[8].as_str());
        let other = self.instances.iter().find(|i| !shared(i))?;
        Some(format!(
            "instance {} has its disk on its nodes ({})",
            other.fields[0], other.fields[8]
        ))
    }

    pub(crate) fn node(&self, name: &str) -> usize {
        self.nodes.iter().position(|n| n.name == name).unwrap_or(0)
    }

    pub(crate) fn memory_on(&self, node: &str) -> i64 {
        self.instances.iter().filter(|i| i.node == node).map(|i| i.memory).sum()
    }

    fn vcpus_on(&self, node: &str) -> i64 {
        self.instances.iter().filter(|i| i.node == node).map(|i| i.vcpus).sum()
    }

    /// Virtual processors that may still be promised on a node.
    pub(crate) fn vcpus_left(&self, node: &Node) -> i64 {
        (node.cpus as f64 * self.vcpu_ratio) as i64 - self.vcpus_on(&node.name)
    }

    /// hbal's score.
    pub(crate) fn score(&self) -> f64 {
        let open = || self.nodes.iter().filter(|n| n.open());
        let memory = deviation(open().map(|n| n.free_memory as f64 / n.memory as f64));
        let vcpus = deviation(open().map(|n| self.vcpus_on(&n.name) as f64 / n.cpus as f64));
        let count = deviation(
            open().map(|n| self.instances.iter().filter(|i| i.node == n.name).count() as f64),
        );
        memory + vcpus + 4.0 * count + 20.0 * self.stranded() as f64
    }

    /// Instances on nodes that take none.
    pub(crate) fn stranded(&self) -> usize {
        self.instances.iter().filter(|i| !self.nodes[self.node(&i.node)].open()).count()
    }

    /// Marks the nodes with the most instances offline.
    pub(crate) fn close_fullest(&mut self, count: usize) {
        let on = |n: &Node| self.instances.iter().filter(|i| i.node == n.name).count();
        let mut by_count: Vec<(usize, usize)> =
            self.nodes.iter().enumerate().map(|(i, n)| (on(n), i)).collect();
        by_count.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, node) in by_count.into_iter().take(count) {
            "Y".clone_into(&mut self.nodes[node].fields[7]);
        }
    }

    /// Moves an instance.
    ///
    /// # Errors
    /// It is not on `from`.
    pub(crate) fn shift(&mut self, instance: usize, from: usize, to: usize) -> Result<()> {
        let own = &mut self.instances[instance];
        ensure!(own.node == self.nodes[from].name, "{} is not there", own.fields[0]);
        own.node.clone_from(&self.nodes[to].name);
        let memory = own.memory;
        self.nodes[from].free_memory += memory;
        self.nodes[to].free_memory -= memory;
        Ok(())
    }

    /// Whether nodes have been filled beyond what they have.
    ///
    /// # Errors
    /// The first that is overfull and was not before, or takes instances though offline.
    pub(crate) fn overfull(&self, before: &Self) -> Result<()> {
        for (node, was) in self.nodes.iter().zip(&before.nodes) {
            let (now, then) = (node.free_memory, was.free_memory);
            ensure!(now >= 0 || now >= then, "{} has {now} MiB free", node.name);
            let (now, then) = (self.vcpus_left(node), before.vcpus_left(was));
            ensure!(now >= 0 || now >= then, "{} promises {} processors too many", node.name, -now);
            let count = |c: &Self| c.instances.iter().filter(|i| i.node == node.name).count();
            ensure!(node.open() || count(self) <= count(before), "{} is offline", node.name);
        }
        Ok(())
    }
}

/// Of the whole population.
fn deviation(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt()
}

/// In the format again.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n", self.groups)?;
        for node in &self.nodes {
            let mut fields = node.fields.clone();
            fields[3] = node.free_memory.to_string();
            writeln!(f, "{}", fields.join("|"))?;
        }
        writeln!(f)?;
        for instance in &self.instances {
            let mut fields = instance.fields.clone();
            fields[6].clone_from(&instance.node);
            writeln!(f, "{}", fields.join("|"))?;
        }
        write!(f, "\n{}", self.rest.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "default|id|preferred||\n\n\
        a|1000|0|200|10|10|4|N|id|1\nb|1000|0|1000|10|10|4|Y|id|1\nc|1000|0|1000|10|10|4|N|id|1\n\n\
        x|400|0|1|running|Y|a||ext||1\ny|400|0|2|running|Y|a||ext||1\n\n\n|policy|ext|4.0|32.0\n";

    #[test]
    fn a_cluster_is_read_scored_and_written() {
        let mut cluster = Cluster::read(SMALL).unwrap();
        assert_eq!(cluster.to_string(), SMALL);
        // Over a and c: free memory 0.2 and 1, processors 0.75 and 0, instances 2 and 0.
        assert!((cluster.score() - (0.4 + 0.375 + 4.0)).abs() < 1e-9, "{}", cluster.score());
        assert_eq!((cluster.unsupported(), cluster.stranded()), (None, 0));
        let before = cluster.clone();
        cluster.shift(0, 0, 2).unwrap();
        assert!(cluster.to_string().contains("x|400|0|1|running|Y|c||ext||1"));
        assert!(cluster.to_string().contains("c|1000|0|600|10|10|4|N"));
        assert!(cluster.overfull(&before).is_ok() && cluster.shift(0, 0, 2).is_err());
        cluster.shift(1, 0, 1).unwrap();
        assert!(cluster.overfull(&before).is_err(), "b is offline");
    }

    #[test]
    fn what_is_no_cluster_is_refused() {
        for text in [
            "",
            "g\n\na|1|2\n\n",
            "g\n\na|x|0|2|1|1|4|N|id|1\n\n",
            "g\n\n\n\nx|4|0|1|r|Y|z||ext||1\n",
        ] {
            let read = Cluster::read(text);
            assert!(read.is_err() || read.is_ok_and(|c| c.nodes.is_empty()), "{text:?}");
        }
    }
}
