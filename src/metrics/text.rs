//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::{Kind, Metric};

/// A text being written.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// The two lines that go before a metric's series.
    pub fn describe(&mut self, Metric { name, kind, help }: Metric) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
    }

    /// One series' value.
    pub fn series(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.0.push_str(name);
        for (i, (label, is)) in labels.iter().enumerate() {
            let escaped = is.to_string().replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let _ = write!(self.0, "{}{label}=\"{escaped}\"", if i == 0 { '{' } else { ',' });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// A metric that has one series and no labels.
    pub fn single(&mut self, metric: Metric, value: impl Display) {
        self.describe(metric);
        self.series(metric.name, &[], value);
    }

    /// Text that is in this format already.
    pub fn push_rendered(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// The whole text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Kind {
    /// Prometheus' word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        let metric = Metric { name: "a_total", kind: Kind::Counter, help: "As." };
        text.single(metric, 1.5);
        text.series("a_total", &[("cmd", &"x\"\\\n"), ("n", &7)], 2);
        let expect = "# HELP a_total As.\n# TYPE a_total counter\na_total 1.5\na_total{cmd=\"x\\\"\\\\\\n\",n=\"7\"} 2\n";
        assert_eq!(text.into_string(), expect);
    }
}
