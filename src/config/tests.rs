use super::*;

fn load(toml: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, toml.as_bytes()).unwrap();
    Config::load(Some(file.path()))
}

#[test]
fn the_shipped_file_is_the_defaults_and_is_whole() {
    let config = Config::load(None).unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:8080");
    let printed = serde_json::to_value(&config).unwrap();
    let shipped: toml_keys::Keys = toml_keys::of(DEFAULTS);
    assert_eq!(toml_keys::of_json(&printed), shipped, "every setting stands in config.toml");
}

#[test]
fn unknown_and_senseless_settings_are_refused_by_name() {
    let refusal = |toml| load(toml).unwrap_err().to_string();
    assert!(refusal("[server]\nmax_conections = 5").contains("max_conections"));
    assert!(refusal("[engine]\nshards = 0").contains("engine.shards"));
    assert!(refusal("[engine]\nshards = \"many\"").contains("shards"));
    assert!(refusal("[auth]\njwt_secret = \"short\"").contains("auth.jwt_secret"));
    assert_eq!(load("[engine]\nshards = 2").unwrap().engine.shards, 2);
}

#[test]
fn addresses_of_servers_are_secrets_and_of_the_right_kind() {
    let refusal = load("[ledger]\nurl = \"mysql://u:secreto@db/x\"").unwrap_err().to_string();
    assert!(refusal.contains("ledger.url") && !refusal.contains("secreto"), "{refusal}");
    assert!(load("[stock]\nurl = \"http://x\"").is_err() && load("[bus]\nurl = \"redis://x\"").is_err());
    let fine = load("[bus]\nurl = \"amqps://u:secreto@mq/v\"").unwrap();
    assert!(!serde_json::to_string(&fine).unwrap().contains("secreto"));
}

#[test]
fn secrets_are_not_printed() {
    let secret = "0123456789abcdef0123456789abcdef";
    let config = load(&format!("[auth]\njwt_secret = \"{secret}\"")).unwrap();
    assert_eq!(config.auth.jwt_secret.reveal(), secret);
    assert!(!format!("{config:?}").contains(secret));
    assert!(!serde_json::to_string(&config).unwrap().contains(secret));
}

#[test]
fn an_erp_needs_little_and_never_a_password_in_a_file() {
    let source = |more: &str| load(&format!("[legacy.sources.lince]\ntenant = \"t\"\nhost = \"h\"\n{more}"));
    let refusal = |more: &str| source(more).unwrap_err().to_string();
    assert!(refusal("").contains("legacy.sources need tenant, host and user"));
    assert!(refusal("user = \"u\"\npassword = \"secreto\"").contains("environment"));
    assert!(!refusal("user = \"u\"\npassword = \"secreto\"").contains("secreto"));
    assert!(refusal("user = \"u\"\nintervall_ms = 5").contains("intervall_ms"));
    assert!(refusal("user = \"u\"\ninterval_ms = 5").contains("interval_ms"));
    let fine = source("user = \"u\"").unwrap();
    let lince = &fine.legacy.sources["lince"];
    assert_eq!((lince.port, lince.interval_ms, lince.encryption), (1_433, 2_000, LegacyEncryption::Required));
    assert!(toml::to_string(&fine).unwrap().contains("[legacy.sources.lince]"));
}

/// `section.key` of every setting, to compare the file with the structs.
mod toml_keys {
    use std::collections::BTreeSet;
    pub type Keys = BTreeSet<String>;

    pub fn of(text: &str) -> Keys {
        let mut section = String::new();
        let mut keys = Keys::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = format!("{name}.");
            } else if let Some((key, _)) = line.split_once(" = ") {
                keys.insert(format!("{section}{key}"));
            }
        }
        keys
    }

    pub fn of_json(value: &serde_json::Value) -> Keys {
        let mut keys = Keys::new();
        for (key, value) in value.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(section) => keys.extend(section.keys().map(|inner| format!("{key}.{inner}"))),
                None => {
                    keys.insert(key.clone());
                }
            }
        }
        keys
    }
}
