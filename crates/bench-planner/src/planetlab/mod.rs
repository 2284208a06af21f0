//! PlanetLab: a day of CPU use of some thousand VMs on 800 hosts, in the model of
//! CloudSim 3.0.3 (Beloglazov and Buyya 2012).

mod datacenter;
mod run;

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{Args, data};
use datacenter::Trace;
use run::{Outcome, simulate};

/// The section's name, which is its folder's too.
pub(crate) const NAME: &str = "planetlab";

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    day: String,
    vms: usize,
    /// No placement can use less: all load on hosts that are full, of the kind
    /// that needs least for it.
    lower_bound_kwh: f64,
    #[serde(flatten)]
    outcome: Outcome,
    /// The same with memory enforced all day.
    memory_enforced: Outcome,
    seconds: f64,
}

/// Simulates the days that are asked for.
///
/// # Errors
/// A file is malformed.
pub(crate) fn run(args: &Args) -> Result<Option<Vec<Row>>> {
    let mut days = Vec::new();
    for file in data::list(&args.data.join(NAME))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = name.context("a file without a name")?;
        let day = name.split('.').next().unwrap_or_default().to_owned();
        days.push((day, file));
    }
    if !args.section(NAME, days.iter().map(|(day, _)| day.clone())) {
        return Ok(None);
    }
    let mut rows = Vec::new();
    for (day, file) in days.iter().filter(|(day, _)| args.instance(NAME, day)) {
        let text = String::from_utf8(data::read(file)?).context("not text")?;
        let trace = Trace::read(&text).with_context(|| format!("day {day}"))?;
        let begun = Instant::now();
        let row = Row {
            day: day.clone(),
            vms: trace.vms.len(),
            lower_bound_kwh: trace.lower_bound_kwh(),
            outcome: simulate(&trace, false).with_context(|| format!("day {day}"))?,
            memory_enforced: simulate(&trace, true)
                .with_context(|| format!("day {day} with memory enforced"))?,
            seconds: begun.elapsed().as_secs_f64(),
        };
        tell(&row);
        rows.push(row);
    }
    Ok(Some(rows))
}

fn tell(row: &Row) {
    eprintln!("{} {} VMs, at least {:.2} kWh", row.day, row.vms, row.lower_bound_kwh);
    for (kind, o) in [("published model", row.outcome), ("memory enforced", row.memory_enforced)] {
        eprintln!(
            "  {kind}  {:>7.2} kWh ({:.3} x)  {:>5} migrations  SLATAH {:.4}  PDM {:.2e}  \
             SLAV {:.2e}  ESV {:.2e}  {:.1} hosts on",
            o.energy_kwh,
            o.energy_kwh / row.lower_bound_kwh,
            o.migrations,
            o.slatah,
            o.pdm,
            o.slav,
            o.esv,
            o.mean_hosts_on
        );
    }
}
