use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

fn text_of(byte: u8) -> String {
    let mut key = [byte; KEY];
    key[0] ^= 1;
    BASE64.encode(key)
}

fn vault(keys: &[u8]) -> Vault {
    let texts: Vec<String> = keys.iter().map(|byte| text_of(*byte)).collect();
    Vault::parse(&texts.join(" ")).unwrap()
}

fn opened(vault: &Vault, sealed: &str, of: &str) -> std::result::Result<String, DecryptError> {
    vault.open(sealed, of).map(|text| text.expose_secret().to_owned())
}

#[test]
fn a_key_is_read_in_each_of_its_forms() {
    let hex = "00ff10aa".repeat(8);
    let bytes: Vec<u8> = [0x00, 0xff, 0x10, 0xaa].repeat(8);
    let sealed = Vault::parse(&hex).unwrap().seal("text", "of").unwrap();
    for form in [
        hex.to_uppercase(),
        BASE64.encode(&bytes),
        BASE64.encode(&bytes).trim_end_matches('=').to_owned(),
        URL_SAFE_NO_PAD.encode(&bytes),
        format!(" {}\n", BASE64.encode(&bytes)),
    ] {
        assert_eq!(opened(&Vault::parse(&form).unwrap(), &sealed, "of").unwrap(), "text", "{form}");
    }
}

#[test]
fn what_is_no_key_is_refused_and_not_repeated() {
    let long = BASE64.encode([7; 33]);
    let zeros = BASE64.encode([0; 32]);
    let good = text_of(1);
    for wrong in ["planted", "", " ", &long, &zeros, &"ab".repeat(31), &format!("{good} planted")] {
        let why = Vault::parse(wrong).unwrap_err();
        assert!(why.contains("openssl rand -base64 32"), "{why}");
        let words = wrong.split_whitespace();
        assert!(words.clone().all(|word| !why.contains(word)), "{why}");
    }
}

#[test]
fn nothing_of_the_keys_is_shown() {
    let shown = format!("{:?}", vault(&[1, 2]));
    assert!(!shown.contains(&text_of(1)) && shown.len() < 40, "{shown}");
}

#[test]
fn keys_are_changed_one_after_another() {
    let (old, both, new) = (vault(&[1]), vault(&[2, 1]), vault(&[2]));
    let sealed = old.seal("text", "of").unwrap();
    assert!(old.is_current(&sealed) && both.knows(&sealed) && !both.is_current(&sealed));
    assert_eq!(opened(&both, &sealed, "of").unwrap(), "text");
    assert!(!new.knows(&sealed));
    assert_eq!(opened(&new, &sealed, "of"), Err(DecryptError::UnknownKey));
    let sealed = both.seal("text", "of").unwrap();
    assert!(both.is_current(&sealed) && new.is_current(&sealed) && !old.knows(&sealed));
    assert_eq!(opened(&new, &sealed, "of").unwrap(), "text");
}

#[test]
fn without_a_key_nothing_is_sealed_and_it_is_said_how_to_make_one() {
    let none = Vault::default();
    for error in
        [none.require_key().unwrap_err(), none.seal("text", "of").unwrap_err(), none.blind(b"x").unwrap_err()]
    {
        assert!(matches!(&error, Error::Conflict(why) if why.contains("openssl rand")), "{error}");
    }
    let sealed = vault(&[1]).seal("text", "of").unwrap();
    assert_eq!(opened(&none, &sealed, "of"), Err(DecryptError::UnknownKey));
}

#[test]
fn what_is_no_sealed_text_does_not_open() {
    let vault = vault(&[1]);
    let sealed = vault.seal("text", "of").unwrap();
    let (head, _) = sealed.rsplit_once('.').unwrap();
    for wrong in [
        "",
        "v1",
        "v1.",
        "text",
        "v2.x.y",
        &format!("{head}."),
        &format!("{head}.AAAA"),
        &format!("{head}.%"),
    ] {
        assert_eq!(opened(&vault, wrong, "of"), Err(DecryptError::Changed), "{wrong}");
    }
}

#[test]
fn a_code_depends_on_the_key() {
    let code = |keys: &[u8], of: &[u8]| vault(keys).blind(of).unwrap();
    assert_eq!(code(&[1], b"a"), code(&[1, 2], b"a"));
    assert_ne!(code(&[1], b"a"), code(&[2], b"a"));
    assert_ne!(code(&[1], b"a"), code(&[1], b"b"));
}

proptest! {
    #[test]
    fn it_opens_as_it_was_and_for_what_it_belongs_to_alone(text in ".*", of in ".*", other in ".*") {
        let vault = vault(&[1]);
        let sealed = vault.seal(&text, &of).unwrap();
        prop_assert!(!sealed.contains(&text) || text.len() < 4);
        prop_assert_eq!(opened(&vault, &sealed, &of).unwrap(), text.clone());
        prop_assert_ne!(vault.seal(&text, &of).unwrap(), sealed.clone(), "a nonce is used once");
        if other != of {
            prop_assert_eq!(opened(&vault, &sealed, &other), Err(DecryptError::Changed));
        }
    }

    #[test]
    fn whatever_byte_is_changed_it_opens_no_more(text in ".{0,40}", at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let vault = vault(&[1]);
        let sealed = vault.seal(&text, "of").unwrap();
        let (head, whole) = sealed.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(whole).unwrap();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let changed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert_eq!(opened(&vault, &changed, "of"), Err(DecryptError::Changed));
        bytes.truncate(at);
        let cut = format!("{head}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert_eq!(opened(&vault, &cut, "of"), Err(DecryptError::Changed));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".*") {
        prop_assert!(vault(&[1]).open(&text, "of").is_err());
        let _ = Vault::parse(&text);
    }
}
