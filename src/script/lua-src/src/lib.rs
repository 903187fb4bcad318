//! Builds the Lua beside this file. What a build script of mlua's calls, by the names it calls it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The only version there is.
pub use Version::Lua51;

/// Which Lua to build.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    Lua51,
}

/// How to build it.
#[derive(Debug, Default)]
pub struct Build;

/// What was built.
#[derive(Debug)]
pub struct Artifacts {
    library_dir: PathBuf,
}

const LIBRARY: &str = "lua5.1";

impl Build {
    /// The only way there is.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Builds it into `OUT_DIR`.
    ///
    /// # Panics
    /// Outside of a build script, or when it does not compile.
    #[must_use]
    pub fn build(&self, _: Version) -> Artifacts {
        let source_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
        let out_dir = env::var_os("OUT_DIR").expect("Cargo says where to build");
        let library_dir = Path::new(&out_dir).join("lib");
        let entries = fs::read_dir(&source_dir).expect("the sources are here");
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.expect("the sources are readable").path()).collect();
        files.sort();
        println!("cargo:rerun-if-changed={}", source_dir.display());
        cc::Build::new()
            .cargo_metadata(false)
            .warnings(false) // Lua's, in the words of another time.
            .opt_level(2) // Scripts are as fast in tests.
            .flag_if_supported("-fno-common")
            .include(&source_dir)
            .files(files.iter().filter(|file| file.extension().is_some_and(|end| end == "c")))
            .out_dir(&library_dir)
            .compile(LIBRARY);
        Artifacts { library_dir }
    }
}

impl Artifacts {
    /// Tells Cargo how to link it.
    pub fn print_cargo_metadata(&self) {
        println!("cargo:rustc-link-search=native={}", self.library_dir.display());
        println!("cargo:rustc-link-lib=static:-bundle={LIBRARY}");
    }
}
