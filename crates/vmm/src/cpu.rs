//! The processor that QEMU can show to a guest, in QEMU's own words.

use serde_json::{Value, json};
use types::CpuOffer;

use crate::Accel;

/// Asks a QEMU that has no machine, but the accelerator. What it cannot tell stays
/// empty: then nothing is concluded from it.
pub(crate) async fn ask(client: &qmp::Client, accel: Accel) -> CpuOffer {
    let model = match accel {
        Accel::Kvm => "host",
        Accel::Tcg => "max",
    };
    let question = json!({ "type": "full", "model": { "name": model } });
    let expansion = client.execute("query-cpu-model-expansion", question).await;
    let listed = client.execute("query-cpu-definitions", Value::Null).await;
    match (expansion, listed) {
        (Ok(expansion), Ok(listed)) => read(&expansion, &listed),
        (expansion, listed) => {
            let error = expansion.err().or(listed.err()).map(|e| e.to_string());
            tracing::warn!(?error, "QEMU does not tell its processor's features");
            CpuOffer::default()
        }
    }
}

fn read(expansion: &Value, listed: &Value) -> CpuOffer {
    let properties = expansion.pointer("/model/props").and_then(Value::as_object);
    let on = properties.into_iter().flatten().filter(|(_, value)| **value == json!(true));
    let vendor = properties.and_then(|p| p.get("vendor")).and_then(Value::as_str);
    let names = listed.as_array().into_iter().flatten().filter_map(|model| model["name"].as_str());
    CpuOffer {
        vendor: vendor.unwrap_or_default().to_owned(),
        features: on.map(|(name, _)| name.clone()).collect(),
        models: names.map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_is_offered() {
        let expansion = json!({ "model": { "name": "max", "props": {
            "avx2": true, "avx512f": false, "vendor": "AuthenticAMD", "level": 13,
        } } });
        let listed = json!([{ "name": "qemu64" }, { "name": "max" }, { "typename": "?" }]);
        let offer = read(&expansion, &listed);
        assert_eq!(offer.features, ["avx2"]);
        assert_eq!((offer.vendor.as_str(), offer.models.len()), ("AuthenticAMD", 2));
        assert_eq!(read(&Value::Null, &Value::Null), CpuOffer::default());
    }
}
