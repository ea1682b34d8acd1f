//! Names with a number, as people say them: `INC-001`, `SIL-001`.

/// Makes the type of such a name and of what is none. Numbers are given once in a federation, by
/// whoever writes the record of what they name.
macro_rules! numbered {
    (
        $(#[$about:meta])* $id:ident,
        $(#[$about_error:meta])* $error:ident,
        $prefix:literal, $message:literal
    ) => {
        $(#[$about])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize,
            serde::Deserialize, schemars::JsonSchema,
        )]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $id(u32);

        $(#[$about_error])*
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error(String);

        impl $id {
            /// From its number.
            #[must_use]
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// Its number.
            #[must_use]
            pub const fn number(self) -> u32 {
                self.0
            }
        }

        impl std::fmt::Display for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&format!(concat!($prefix, "{:03}"), self.0))
            }
        }

        impl std::str::FromStr for $id {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let refused = || $error(text.chars().take(40).collect());
                let digits = text.strip_prefix($prefix).unwrap_or(text);
                // `u32` takes a sign, a name does not.
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(refused());
                }
                digits.parse().map(Self).map_err(|_| refused())
            }
        }

        impl TryFrom<String> for $id {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }
    };
}

numbered!(
    /// Names an incident, `INC-001` as in the source (M14).
    IncidentId,
    /// What is no incident's name.
    IncidentIdError,
    "INC-",
    "{0:?} is not the name of an incident; write one such as INC-001"
);

numbered!(
    /// Names a silence, `SIL-001`.
    SilenceId,
    /// What is no silence's name.
    SilenceIdError,
    "SIL-",
    "{0:?} is not the name of a silence; write one such as SIL-001"
);
