//! What runs may use up: three presets and one's own, scaled down by risk.

use athena_schemas::refusal::Refusal;
use athena_schemas::risk::{Limits, Risk};
use serde::{Deserialize, Serialize};

/// Limits by tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// What a run of low risk may use up.
    pub limits: Limits,
    /// What is left of it at each risk, percent.
    pub tiers: Tiers,
}

/// Percent of the preset's limits by risk. Never rises with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tiers {
    /// At medium risk.
    pub medium: u64,
    /// At high risk, once a person said yes.
    pub high: u64,
    /// At critical risk, where a policy names the code.
    pub critical: u64,
}

impl Default for Tiers {
    fn default() -> Self {
        Self { medium: 75, high: 50, critical: 25 }
    }
}

/// The names of the presets, strictest first.
pub const NAMES: [&str; 3] = ["conservative", "balanced", "permissive"];

impl Preset {
    /// A preset by its name.
    ///
    /// # Errors
    /// [`Code::NotFound`](athena_schemas::refusal::Code::NotFound) with the names there are.
    pub fn named(name: &str) -> Result<Self, Refusal> {
        let limits = match name {
            "conservative" => Limits {
                wall_ms: 5_000,
                cpu_ms: 2_000,
                memory_mb: 100,
                calls: 200,
                result_bytes: 256 << 10,
                source_bytes: 64 << 10,
                log_bytes: 64 << 10,
            },
            "balanced" => Limits::BALANCED,
            "permissive" => Limits {
                wall_ms: 300_000,
                cpu_ms: 60_000,
                memory_mb: 512,
                calls: 10_000,
                result_bytes: 4 << 20,
                source_bytes: 1 << 20,
                log_bytes: 1 << 20,
            },
            _ => {
                return Err(
                    Refusal::not_found(format!("there is no sandbox preset {name}")).hint(NAMES.join(", "))
                );
            }
        };
        Ok(Self { name: name.to_owned(), limits, tiers: Tiers::default() })
    }

    /// A preset by its name, or one of one's own by the path of its file.
    ///
    /// # Errors
    /// As [`named`](Self::named) and [`from_toml`](Self::from_toml), or when the file cannot be read.
    pub fn load(name: &str) -> Result<Self, Refusal> {
        if !name.ends_with(".toml") {
            return Self::named(name);
        }
        let text = std::fs::read_to_string(name).map_err(|error| {
            Refusal::invalid(format!("sandbox preset {name}: {error}")).hint("athena sandbox presets")
        })?;
        Self::from_toml(name, &text)
    }

    /// A preset of one's own: TOML with `base` (a preset's name, `balanced` where missing), any of the limits, and `[tiers]`.
    ///
    /// # Errors
    /// [`Code::Invalid`](athena_schemas::refusal::Code::Invalid) naming the field and its range.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, Refusal> {
        let own: Own = toml::from_str(text)
            .map_err(|error| Refusal::invalid(format!("sandbox preset {name}: {}", error.message())))?;
        let base = Self::named(own.base.as_deref().unwrap_or("balanced"))?;
        let limits = Limits {
            wall_ms: own.wall_ms.unwrap_or(base.limits.wall_ms),
            cpu_ms: own.cpu_ms.unwrap_or(base.limits.cpu_ms),
            memory_mb: own.memory_mb.unwrap_or(base.limits.memory_mb),
            calls: own.calls.unwrap_or(base.limits.calls),
            result_bytes: own.result_bytes.unwrap_or(base.limits.result_bytes),
            source_bytes: own.source_bytes.unwrap_or(base.limits.source_bytes),
            log_bytes: own.log_bytes.unwrap_or(base.limits.log_bytes),
        };
        let preset = Self { name: name.to_owned(), limits, tiers: own.tiers.unwrap_or(base.tiers) };
        preset.validate()?;
        Ok(preset)
    }

    /// The limits at a risk.
    pub fn at(&self, risk: Risk) -> Limits {
        let percent = match risk {
            Risk::Low => 100,
            Risk::Medium => self.tiers.medium,
            Risk::High => self.tiers.high,
            Risk::Critical => self.tiers.critical,
        };
        let part = |whole: u64| (whole * percent / 100).max(1);
        let part32 = |whole: u32| u32::try_from(part(u64::from(whole))).unwrap_or(whole);
        // Sizes stay: cutting the source or the result in two makes no code safer, only wrong.
        Limits {
            wall_ms: part(self.limits.wall_ms),
            cpu_ms: part(self.limits.cpu_ms),
            memory_mb: part32(self.limits.memory_mb).max(MEMORY_MB.0),
            calls: part32(self.limits.calls),
            ..self.limits
        }
    }

    fn validate(&self) -> Result<(), Refusal> {
        let Limits { wall_ms, cpu_ms, memory_mb, calls, result_bytes, source_bytes, log_bytes } = self.limits;
        for (field, value, least, most) in [
            ("wall_ms", wall_ms, 10, 3_600_000),
            ("cpu_ms", cpu_ms, 10, 3_600_000),
            ("memory_mb", memory_mb.into(), MEMORY_MB.0.into(), MEMORY_MB.1.into()),
            ("calls", calls.into(), 0, 100_000),
            // A frame to or from the worker carries at most 16 MiB.
            ("result_bytes", result_bytes, 1 << 10, 8 << 20),
            ("source_bytes", source_bytes, 1 << 10, 4 << 20),
            ("log_bytes", log_bytes, 0, 4 << 20),
            ("tiers.medium", self.tiers.medium, 1, 100),
            ("tiers.high", self.tiers.high, 1, self.tiers.medium),
            ("tiers.critical", self.tiers.critical, 1, self.tiers.high),
        ] {
            if !(least..=most).contains(&value) {
                return Err(Refusal::invalid(format!(
                    "sandbox preset {}: {field} is {value}, not from {least} to {most}",
                    self.name
                ))
                .at(field));
            }
        }
        if cpu_ms > wall_ms {
            return Err(Refusal::invalid(format!(
                "sandbox preset {}: cpu_ms {cpu_ms} is more than wall_ms {wall_ms}",
                self.name
            ))
            .at("cpu_ms"));
        }
        Ok(())
    }
}

/// The heap an engine needs at least and may have at most, mebibytes.
const MEMORY_MB: (u32, u32) = (8, 4_096);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    base: Option<String>,
    wall_ms: Option<u64>,
    cpu_ms: Option<u64>,
    memory_mb: Option<u32>,
    calls: Option<u32>,
    result_bytes: Option<u64>,
    source_bytes: Option<u64>,
    log_bytes: Option<u64>,
    tiers: Option<Tiers>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_hold_to_their_own_rules_and_only_fall_with_risk() {
        for name in NAMES {
            let preset = Preset::named(name).unwrap();
            preset.validate().unwrap();
            let mut above = preset.limits;
            for risk in [Risk::Low, Risk::Medium, Risk::High, Risk::Critical] {
                let limits = preset.at(risk);
                assert_eq!(limits.min(above), limits, "{name} {risk}");
                above = limits;
            }
        }
        assert_eq!(Preset::named("balanced").unwrap().at(Risk::Low), Limits::BALANCED);
        assert!(Preset::named("loose").unwrap_err().hint.contains("balanced"));
    }

    #[test]
    fn one_s_own_preset_starts_from_another() {
        let preset = Preset::from_toml(
            "mine",
            "base = \"permissive\"\nwall_ms = 5000\ncpu_ms = 1000\nmemory_mb = 100\n[tiers]\nmedium = 50\nhigh = 20\ncritical = 10",
        )
        .unwrap();
        assert_eq!((preset.limits.wall_ms, preset.limits.calls), (5_000, 10_000));
        assert_eq!(preset.at(Risk::High).wall_ms, 1_000);
    }

    #[test]
    fn a_misfit_is_named() {
        let refused = |text: &str| Preset::from_toml("mine", text).unwrap_err();
        assert_eq!(refused("wall_ms = 0").path.as_deref(), Some("wall_ms"));
        assert_eq!(refused("cpu_ms = 31000").path.as_deref(), Some("cpu_ms"));
        assert_eq!(refused("[tiers]\nmedium = 10").path.as_deref(), Some("tiers.high"));
        assert!(refused("wal_ms = 1").message.contains("wal_ms"));
    }
}
