//! One canonical text per option, in the order of the table.

use std::time::Duration;

use super::format::OutputLimits;
use super::options;

/// The texts. Reading one as the type its format stands for cannot fail, since only canonical texts
/// are ever put here.
#[derive(Clone, Debug)]
pub struct Texts(Vec<String>);

impl Default for Texts {
    fn default() -> Self {
        let canonical = |option: &options::Opt| {
            option.format.canonical(option.default).expect("a test checks every default in the table")
        };
        Self(options::all().map(canonical).collect())
    }
}

impl Texts {
    /// The text of the option at this place in the table.
    pub fn at(&self, place: usize) -> &str {
        &self.0[place]
    }

    /// Replaces a text by another canonical one.
    pub fn put(&mut self, place: usize, canonical: String) {
        self.0[place] = canonical;
    }

    /// The text of an option.
    pub fn text(&self, name: &str) -> &str {
        self.at(options::place(name))
    }

    /// The text of an option that may be left out.
    pub fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// An option's value, where it is a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.text(name).split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// An option's value, where it is a number from 0 or a size in bytes.
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{name} is not a number in the table of options"))
    }

    /// An option's value, where it is a time in milliseconds.
    pub fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// The limits of clients' output.
    pub fn output_limits(&self) -> OutputLimits {
        let text = self.text("client-output-buffer-limit");
        OutputLimits::default().parse(text).expect("a canonical text names every class")
    }
}
