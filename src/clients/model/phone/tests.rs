use phonenumber::metadata::DATABASE;
use proptest::prelude::*;

use super::*;

fn parse(text: &str, home: &str) -> Result<String, &'static str> {
    PhoneNumber::parse(text, home.parse()?).map(|number| number.to_string())
}

#[test]
fn numbers_are_understood_as_people_write_them() {
    for (text, home, number) in [
        ("+7 (903) 123-45-67", "RU", "79031234567"),
        ("7 903 123 45 67", "RU", "79031234567"),
        ("8 (903) 123-45-67", "RU", "79031234567"),
        ("8-903-123-45-67", "ru", "79031234567"),
        ("9031234567", "RU", "79031234567"),
        ("79031234567", "RU", "79031234567"),
        ("8 10 49 151 12345678", "RU", "4915112345678"),
        ("12125550142", "RU", "12125550142"),
        ("+7 903 123 45 67", "", "79031234567"),
        ("79031234567", "", "79031234567"),
        ("007 903 1234567", "", "79031234567"),
        ("\u{202a}+7\u{a0}903\u{2011}123\u{2013}45\u{2212}67\u{202c}", "", "79031234567"),
        ("tel:+7-903-123-45-67", "", "79031234567"),
        ("79031234567.0", "", "79031234567"),
        ("+7 8 903 123 45 67", "", "79031234567"),
        ("(212) 555-0142", "US", "12125550142"),
        ("212.555.0142", "US", "12125550142"),
        ("1 212 555 0142", "US", "12125550142"),
        ("+1 212 555 0142", "US", "12125550142"),
        ("011 49 151 12345678", "US", "4915112345678"),
        ("0151 12345678", "DE", "4915112345678"),
        ("0151/12345678", "DE", "4915112345678"),
        ("+49 151 12345678", "DE", "4915112345678"),
        ("0049 151 12345678", "DE", "4915112345678"),
        ("+49 (0) 151 12345678", "DE", "4915112345678"),
        ("+49 (0)151 12345678", "", "4915112345678"),
        ("+44 020 7946 0000", "", "442079460000"),
        ("06 698 12345", "IT", "390669812345"),
        ("8 777 123 45 67", "KZ", "77771234567"),
        // a Canadian number, and not a local number of another country with this code
        ("+1 3000000", "", "13000000"),
        ("430 0000", "BB", "12464300000"),
        ("0555 123 45 67", "TR", "905551234567"),
    ] {
        assert_eq!(parse(text, home).as_deref(), Ok(number), "{text} in {home:?}");
    }
}

#[test]
fn what_is_no_number_is_refused_with_the_reason() {
    for (text, home, reason) in [
        ("89031234567", "", UNCLEAR),
        ("9031234567", "", UNCLEAR),
        ("2125550142", "", UNCLEAR),
        ("6505550100", "", UNCLEAR),
        ("0151 12345678", "", UNCLEAR),
        ("2125550142", "RU", NOT_AT_HOME),
        ("999999999999999", "", UNCLEAR),
        ("999999999999999", "RU", NOT_AT_HOME),
        ("1234567", "", UNCLEAR),
        ("1234567", "RU", NOT_AT_HOME),
        ("+999999999999999", "RU", NO_COUNTRY),
        ("+1234567", "", LENGTH),
        ("+7903123456", "RU", LENGTH),
        ("+790312345678", "RU", LENGTH),
        ("+80312345678901234567890", "", LENGTH),
        ("7,90312E+10", "RU", ROUNDED),
        ("7.90312E+10", "", ROUNDED),
        ("7.9031234567e10", "RU", ROUNDED),
        ("+7 903 123-45-67 ext. 12", "RU", EXTENSION),
        ("8 495 123-45-67 доб. 12", "RU", EXTENSION),
        ("+1 212 555 0142 x7", "", EXTENSION),
        ("", "RU", FORM),
        ("+", "RU", FORM),
        ("++79031234567", "RU", FORM),
        ("+7 903 123 45 67, +7 903 123 45 68", "RU", FORM),
        ("1-800-FLOWERS", "US", FORM),
        ("user@example.com", "RU", FORM),
        ("٧٩٠٣١٢٣٤٥٦٧", "RU", FORM),
        ("79,031,234,567", "RU", FORM),
    ] {
        assert_eq!(parse(text, home), Err(reason), "{text} in {home:?}");
    }
    assert!(PhoneNumber::parse("-79031234567", HomeCountry::default()).is_ok(), "a dash is a dash");
}

#[test]
fn a_country_is_named_by_its_two_letters() {
    assert_eq!("".parse(), Ok(HomeCountry::default()));
    assert_eq!("de".parse::<HomeCountry>(), "DE".parse());
    for text in ["D", "XX", "001", "Germany", "7"] {
        assert!(text.parse::<HomeCountry>().is_err(), "{text}");
    }
}

#[test]
fn only_russian_numbers_carry_an_operator_code() {
    let code = |text: &str| {
        let number = PhoneNumber::parse(text, HomeCountry::default()).unwrap();
        number.operator_code().map(|c| c.to_string())
    };
    assert_eq!(code("79031234567"), Some("903".into()));
    assert_eq!(code("+74951234567"), Some("495".into()));
    assert_eq!(code("+70121234567"), Some("012".into()));
    assert_eq!(code("77011234567"), None);
    assert_eq!(code("+76011234567"), None);
    assert_eq!(code("4915112345678"), None);
}

/// The example numbers of each country from libphonenumber.
fn examples() -> Vec<(String, u16, String)> {
    let mut all = Vec::new();
    for region in DATABASE.iter().filter(|region| region.id() != "001") {
        let kinds = region.descriptors();
        let kinds = [kinds.mobile(), kinds.fixed_line(), kinds.voip(), kinds.toll_free()];
        let examples = kinds.into_iter().flatten().filter_map(|kind| kind.example());
        all.extend(examples.map(|number| (region.id().to_owned(), region.country_code(), number.to_owned())));
    }
    all
}

#[test]
fn each_country_s_examples_are_read_in_every_form() {
    let examples = examples();
    assert!(examples.len() > 700, "{}", examples.len());
    for (country, code, number) in examples {
        let whole = format!("{code}{number}");
        for text in [format!("+{whole}"), format!("00{whole}"), format!("+{code} ({number})")] {
            assert_eq!(parse(&text, "").as_ref(), Ok(&whole), "{text}");
        }
        assert_eq!(parse(&whole, "").as_ref(), Ok(&whole));
        let prefix = DATABASE.by_id(&country).unwrap().national_prefix().unwrap_or_default();
        for text in [number.clone(), format!("{prefix}{number}")] {
            assert_eq!(parse(&text, &country).as_ref(), Ok(&whole), "{text} in {country}");
        }
    }
}

/// All countries, and the empty text for no country.
fn countries() -> Vec<&'static str> {
    let all = DATABASE.iter().map(|region| region.id()).filter(|id| *id != "001");
    std::iter::once("").chain(all).collect()
}

proptest! {
    #[test]
    fn a_number_reads_back_as_it_was_written(
        text in "\\PC{0,30}|\\+?[0-9 ()-]{7,20}|\\+?[0-9]{7,13}",
        home in prop::sample::select(countries()),
    ) {
        let home: HomeCountry = home.parse().unwrap();
        if let Ok(number) = PhoneNumber::parse(&text, home) {
            prop_assert_eq!(PhoneNumber::parse(&format!("+{number}"), home), Ok(number));
            prop_assert_eq!(PhoneNumber::from_number(number.number()), Ok(number));
        }
    }

    #[test]
    fn spaces_and_dashes_change_nothing(number in 1_000_000_000_i64..99_999_999_999, at in prop::collection::vec(0_usize..10, 0..6)) {
        let bare = number.to_string();
        let mut spaced = bare.clone();
        at.into_iter().for_each(|at| spaced.insert(at, if at % 2 == 0 { ' ' } else { '-' }));
        for home in ["RU", "US", "GB", ""] {
            prop_assert_eq!(parse(&spaced, home), parse(&bare, home));
            prop_assert_eq!(parse(&format!("+{spaced}"), home), parse(&format!("+{bare}"), home));
        }
    }
}
