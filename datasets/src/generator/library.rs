//! The scenarios that come with the program.

/// A scenario of the repository.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! library {
    ($($name:literal),+ $(,)?) => {
        static LIBRARY: &[BuiltIn] = &[
            $( BuiltIn { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) } ),+
        ];
    };
}

library! {
    "threshold-timing",
    "large",
}

/// All scenarios that come with the program.
pub fn built_in() -> &'static [BuiltIn] {
    LIBRARY
}
