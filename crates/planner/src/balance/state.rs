//! An assignment and its score, kept up to date as VMs are shifted.

/// Hosts, VMs and what counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Problem {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The VMs.
    pub vms: Vec<Vm>,
    /// By measure: the weight of its standard deviation.
    pub weights: Vec<f64>,
    /// The weight of each VM on a host that takes none.
    pub stranded: f64,
}

/// A host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Free of each resource that must not run out, its VMs counted.
    pub free: Vec<i64>,
    /// By measure: load that comes from no VM.
    pub load: Vec<f64>,
    /// By measure: what a load is divided by.
    pub capacity: Vec<f64>,
    /// It takes VMs; not cordoned, not being drained, not down.
    pub open: bool,
}

/// A VM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vm {
    /// Where it is.
    pub host: usize,
    /// What it takes of each resource that must not run out.
    pub needs: Vec<i64>,
    /// By measure: what it adds to its host.
    pub load: Vec<f64>,
    /// It may be moved at all.
    pub movable: bool,
    /// Hosts it cannot run on, sorted.
    pub barred: Vec<usize>,
}

/// An assignment.
#[derive(Debug, Clone)]
pub(super) struct State<'a> {
    pub(super) problem: &'a Problem,
    at: Vec<usize>,
    free: Vec<Vec<i64>>,
    /// By measure, then by host: load ÷ capacity.
    level: Vec<Vec<f64>>,
    /// By measure: sum and sum of squares of the open hosts' levels.
    sums: Vec<(f64, f64)>,
    open: f64,
    stranded: usize,
    /// How many VMs are not where they were.
    away: usize,
    pub(super) evaluated: u64,
}

impl<'a> State<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let level = (0..problem.weights.len()).map(|m| {
            let mut load: Vec<f64> = problem.hosts.iter().map(|h| h.load[m]).collect();
            problem.vms.iter().for_each(|vm| load[vm.host] += vm.load[m]);
            load.iter().zip(&problem.hosts).map(|(load, h)| load / h.capacity[m]).collect()
        });
        let mut state = Self {
            problem,
            at: problem.vms.iter().map(|vm| vm.host).collect(),
            free: problem.hosts.iter().map(|h| h.free.clone()).collect(),
            level: level.collect(),
            sums: Vec::new(),
            open: problem.hosts.iter().filter(|h| h.open).count() as f64,
            stranded: problem.vms.iter().filter(|vm| !problem.hosts[vm.host].open).count(),
            away: 0,
            evaluated: 0,
        };
        state.add_up();
        state
    }

    /// Sums anew, so that rounding errors do not pile up.
    fn add_up(&mut self) {
        let open = |h: &usize| self.problem.hosts[*h].open;
        let sums = self.level.iter().map(|level| {
            let levels = (0..level.len()).filter(open).map(|h| level[h]);
            levels.fold((0.0, 0.0), |(sum, squares), v| (sum + v, squares + v * v))
        });
        self.sums = sums.collect();
    }

    pub(super) fn at(&self, vm: usize) -> usize {
        self.at[vm]
    }

    pub(super) fn away(&self) -> usize {
        self.away
    }

    pub(super) fn is_away(&self, vm: usize) -> bool {
        self.at[vm] != self.problem.vms[vm].host
    }

    pub(super) fn displaced(&self) -> impl Iterator<Item = usize> {
        (0..self.at.len()).filter(|vm| self.is_away(*vm))
    }

    pub(super) fn level(&self, measure: usize, host: usize) -> f64 {
        self.level[measure][host]
    }

    pub(super) fn score(&self) -> f64 {
        let spread = self.sums.iter().zip(&self.problem.weights);
        let spread =
            spread.map(|((sum, squares), weight)| weight * deviation(*sum, *squares, self.open));
        spread.sum::<f64>() + self.stranded as f64 * self.problem.stranded
    }

    /// The score if the VM went to `to`.
    pub(super) fn score_after(&self, vm: usize, to: usize) -> f64 {
        let (problem, from) = (self.problem, self.at[vm]);
        let (a, b) = (&problem.hosts[from], &problem.hosts[to]);
        let mut score = 0.0;
        for (m, weight) in problem.weights.iter().enumerate() {
            let (mut sum, mut squares) = self.sums[m];
            let load = problem.vms[vm].load[m];
            let mut change = |host: usize, by: f64| {
                let level = self.level[m][host];
                sum += by;
                squares += by * (2.0 * level + by);
            };
            if a.open {
                change(from, -load / a.capacity[m]);
            }
            if b.open {
                change(to, load / b.capacity[m]);
            }
            score += weight * deviation(sum, squares, self.open);
        }
        let stranded = self.stranded + usize::from(!b.open) - usize::from(!a.open);
        score + stranded as f64 * problem.stranded
    }

    /// Whether the VM has room on `to` and can run there.
    pub(super) fn fits(&self, vm: usize, to: usize) -> bool {
        let own = &self.problem.vms[vm];
        own.needs.iter().zip(&self.free[to]).all(|(needs, free)| needs <= free)
            && own.barred.binary_search(&to).is_err()
    }

    pub(super) fn shift(&mut self, vm: usize, to: usize) {
        let (problem, from) = (self.problem, self.at[vm]);
        let own = &problem.vms[vm];
        self.away -= usize::from(self.is_away(vm));
        self.at[vm] = to;
        self.away += usize::from(self.is_away(vm));
        for (r, needs) in own.needs.iter().enumerate() {
            self.free[from][r] += needs;
            self.free[to][r] -= needs;
        }
        for (m, load) in own.load.iter().enumerate() {
            self.level[m][from] -= load / problem.hosts[from].capacity[m];
            self.level[m][to] += load / problem.hosts[to].capacity[m];
        }
        self.stranded += usize::from(!problem.hosts[to].open);
        self.stranded -= usize::from(!problem.hosts[from].open);
        self.add_up();
    }
}

/// Of the whole population.
fn deviation(sum: f64, squares: f64, count: f64) -> f64 {
    if count == 0.0 {
        return 0.0;
    }
    let mean = sum / count;
    (squares / count - mean * mean).max(0.0).sqrt()
}
