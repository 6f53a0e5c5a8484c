use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::clients::import::labelled;

/// A number and its attributes.
type Person = (i64, Vec<String>);

/// Returns the rows, the rejections and the detected format of the file.
fn read_all(bytes: &[u8]) -> (Vec<Person>, Vec<Rejection>, Assumed) {
    let (sender, mut messages) = mpsc::channel(100);
    read(bytes, &ImportOptions::default(), Expectation::new(false), &sender);
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    loop {
        match messages.try_recv().unwrap() {
            ReaderMessage::Chunk(chunk) => {
                rows.extend(chunk.rows.into_iter().map(|row| {
                    let texts = row.patch.attributes.into_iter().map(|(_, value)| match value {
                        Some(crate::clients::model::AttributeValue::Text(text)) => text,
                        other => format!("{other:?}"),
                    });
                    (row.number.unwrap().number(), texts.collect())
                }));
                rejected.extend(chunk.rejected);
            }
            ReaderMessage::End(assumed) => return (rows, rejected, *assumed),
            ReaderMessage::Failed(why) => panic!("{why}"),
        }
    }
}

/// Writes as spreadsheets do.
fn write(rows: &[Person], separator: char, line_end: &str, quotes_all: bool) -> String {
    let quoted = |cell: &str| {
        let needs = quotes_all || cell.contains(['"', '\n', '\r', separator]);
        if needs { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
    };
    let mut text = ["phone_number", "имя", "note"].map(quoted).join(&separator.to_string()) + line_end;
    for (number, texts) in rows {
        let cells: Vec<_> = std::iter::once(number.to_string()).chain(texts.clone()).collect();
        text += &cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(&separator.to_string());
        text += line_end;
    }
    text
}

fn encoded(text: &str, encoding: &str, has_mark: bool) -> Vec<u8> {
    let text = if has_mark { format!("\u{feff}{text}") } else { text.to_owned() };
    match encoding {
        "UTF-16LE" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "UTF-16BE" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        "UTF-8" => text.into_bytes(),
        other => labelled(other).unwrap().encode(text.trim_start_matches('\u{feff}')).0.into_owned(),
    }
}

fn cell() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "Анна",
        "Борис",
        "Ольга Петрова",
        "Иван",
        "Щукин",
        "Юрий",
        "Наталья Соколова",
    ]);
    let rest = prop::sample::select(vec![
        "",
        ", мл.",
        "; второй",
        " \"Ромашка\"",
        "\nс новой строки",
        "\t5",
        "|",
        " 42\"",
        "\n\n\"\n",
        ",,;;",
        "'",
    ]);
    (word, rest).prop_map(|(word, rest)| format!("{word}{rest}").trim().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_good_file_comes_to_the_same_clients_in_every_dialect_and_encoding(
        cells in prop::collection::vec((cell(), cell()), 1..30),
    ) {
        let rows: Vec<_> = cells.into_iter().zip(79_031_110_001..).map(|((a, b), number)| (number, vec![a, b])).collect();
        for separator in [',', ';', '\t', '|'] {
            for (line_end, name) in [("\n", "LF"), ("\r\n", "CRLF"), ("\r", "CR")] {
                let text = write(&rows, separator, line_end, separator == ';');
                for (encoding, has_mark) in [
                    ("UTF-8", false), ("UTF-8", true), ("UTF-16LE", false), ("UTF-16LE", true), ("UTF-16BE", false),
                    ("UTF-16BE", true), ("windows-1251", false),
                ] {
                    let (read, rejected, assumed) = read_all(&encoded(&text, encoding, has_mark));
                    prop_assert_eq!(&rejected, &vec![], "{:?}", text);
                    prop_assert_eq!(&read, &rows);
                    prop_assert_eq!(
                        (assumed.encoding.as_str(), assumed.separator, assumed.line_ends.as_str()),
                        (encoding, separator.to_string(), name)
                    );
                }
            }
        }
    }

    /// Wherever a quote was lost or added, no row gets a part of another one.
    #[test]
    fn a_stray_quote_never_moves_a_number_into_another_row(
        names in prop::collection::vec("[a-c\"]{0,4}", 1..20), quotes in prop::collection::vec(any::<bool>(), 20),
    ) {
        let mut text = String::from("phone_number,name\n");
        for ((name, quoted), number) in names.iter().zip(quotes).zip(79_031_110_001_i64..) {
            text += &if quoted { format!("{number},\"{name}\"\n") } else { format!("{number},{name}\n") };
        }
        let (read, rejected, _) = read_all(text.as_bytes());
        prop_assert_eq!(read.len() + rejected.len(), names.len(), "{}", text);
        for (_, texts) in read {
            prop_assert!(!texts.concat().contains("7903111"), "{}", text);
        }
    }
}
