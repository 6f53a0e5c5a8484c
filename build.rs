//! Generates the table of phone number patterns of each country from libphonenumber's data in the crate `phonenumber`.
//! The program uses this table instead of the crate, whose parser takes longer than an import can spend on a number,
//! and whose tables take a quarter of a second at each start.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use phonenumber::Metadata;
use phonenumber::metadata::{DATABASE, Descriptor};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut table = String::from("&[\n");
    // ITU-T E.164: a country code has one to three digits
    for code in 1..=999_u16 {
        let mut regions = DATABASE.by_code(&code).unwrap_or_default();
        // the main country first, since most numbers belong to it
        regions.sort_by_key(|region| !region.is_main_country_for_code());
        for region in regions {
            row(&mut table, region)?;
        }
    }
    table.push(']');
    let directory = std::env::var("OUT_DIR")?;
    Ok(std::fs::write(Path::new(&directory).join("regions.rs"), table)?)
}

fn row(table: &mut String, region: &Metadata) -> Result<(), std::fmt::Error> {
    let bare = |pattern: &str| pattern.split_whitespace().collect::<String>();
    let lengths = descriptors(region)
        .flat_map(Descriptor::possible_length)
        .filter(|length| **length < 16)
        .fold(0_u16, |set, length| set | 1 << length);
    let prefix = region.national_prefix_for_parsing().map(|pattern| bare(pattern.as_str()));
    let prefix = prefix.or(region.national_prefix().map(str::to_owned)).unwrap_or_default();
    writeln!(
        table,
        "    Region {{ id: {:?}, code: {}, lengths: {lengths:#b}, pattern: {:?}, international_prefix: {:?}, \
         trunk_prefix: {:?}, national_prefix: {prefix:?}, transform: {:?} }},",
        region.id(),
        region.country_code(),
        bare(region.descriptors().general().national_number().as_str()),
        bare(region.international_prefix().map_or("", |pattern| pattern.as_str())),
        region.national_prefix().unwrap_or_default(),
        region.national_prefix_transform_rule().unwrap_or_default(),
    )
}

/// Returns the kinds of numbers that can be called from abroad.
fn descriptors(region: &Metadata) -> impl Iterator<Item = &Descriptor> {
    let all = region.descriptors();
    [
        Some(all.general()),
        all.fixed_line(),
        all.mobile(),
        all.toll_free(),
        all.premium_rate(),
        all.shared_cost(),
        all.personal_number(),
        all.voip(),
        all.pager(),
        all.uan(),
        all.voicemail(),
    ]
    .into_iter()
    .flatten()
}
