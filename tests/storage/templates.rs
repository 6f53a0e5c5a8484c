//! Templates: their rows, their fallbacks, and their cache.

use std::time::{Duration, Instant};

use fanfare::db::types::TemplateId;
use fanfare::error::{Error, Result};
use fanfare::idempotency::{Created, IdempotentResponse, Mode};
use fanfare::kinds::ChannelKind;
use fanfare::templates::model::{NewTemplate, StoredTemplate, TemplateChange, TemplateListFilter};
use fanfare::templates::views::{TemplateVersionView, TemplateView};
use fanfare::templates::{Templates, Texts};

use crate::on_each_database;
use crate::storage::stage::{Stage, at};

const SMS: ChannelKind = ChannelKind::Sms;

fn node(stage: &Stage) -> Templates {
    Templates::new(stage.db.clone(), stage.clock.clone())
}

async fn make(
    templates: &Templates,
    name: &str,
    channel: ChannelKind,
    locale: Option<&str>,
    text: &str,
) -> Result<StoredTemplate> {
    let new = NewTemplate {
        name: name.into(),
        channel,
        locale: locale.map(|locale| locale.parse().unwrap()),
        texts: Texts { subject: None, text: text.into(), html: None },
    };
    match templates.create(new, Mode::Commit(None), |_| IdempotentResponse::new(201, None, &())).await? {
        Created::New(made, _) => Ok(made),
        Created::Before(_) => Err(Error::internal("there was no key")),
    }
}

fn to(text: &str) -> TemplateChange {
    TemplateChange { text: Some(text.into()), ..TemplateChange::default() }
}

async fn said(templates: &Templates, name: &str, locale: Option<&str>) -> Option<(i32, String)> {
    let variants = templates.variants(name, SMS).await.unwrap()?;
    let variant = variants.of(locale);
    Some((variant.version, variant.texts.text.clone()))
}

async fn numbers(templates: &Templates, id: TemplateId) -> Vec<i32> {
    templates
        .versions(id, None, 100, TemplateVersionView::from)
        .await
        .unwrap()
        .0
        .into_iter()
        .map(|version| version.version)
        .collect()
}

on_each_database! {
    async fn a_template_keeps_all_its_versions_and_changes_none(kind: Database) {
        let stage = Stage::new(kind).await;
        let templates = node(&stage);
        let made = make(&templates, "order.shipped", SMS, None, "Dear {{ name }}").await.unwrap();
        assert_eq!((made.version, made.placeholders.as_slice()), (1, ["name".to_owned()].as_slice()));
        assert_eq!(templates.get(made.id).await.unwrap(), made);
        stage.clock.set(at(1_010));
        assert_eq!(templates.patch(made.id, to("Dear {{ name }}")).await.unwrap(), made, "nothing is changed");
        let second = templates.patch(made.id, to("Hi {{ a.b }}")).await.unwrap();
        assert_eq!((second.version, second.updated_at, second.created_at), (2, at(1_010), at(1_000)));
        assert_eq!(templates.get(made.id).await.unwrap(), second);
        assert_eq!(numbers(&templates, made.id).await, [2, 1]);
        let first = templates.version(made.id, 1).await.unwrap();
        assert_eq!((first.text.as_str(), first.created_at), ("Dear {{ name }}", at(1_000)));

        let restored = templates.restore(made.id, 1).await.unwrap();
        assert_eq!((restored.version, restored.text.as_str()), (3, "Dear {{ name }}"));
        assert_eq!(templates.restore(made.id, 3).await.unwrap(), restored, "it is in use");
        let (some, next) = templates.versions(made.id, None, 2, TemplateVersionView::from).await.unwrap();
        assert_eq!((some.len(), next), (2, Some(2)));
        assert_eq!(templates.versions(made.id, next, 2, TemplateVersionView::from).await.unwrap().0, [first.into()]);

        assert!(matches!(templates.patch(made.id, to("{{ a | nope }}")).await, Err(Error::Invalid(_))));
        assert!(matches!(templates.version(made.id, 4).await, Err(Error::NotFound { .. })));
        templates.delete(made.id).await.unwrap();
        for gone in [
            templates.get(made.id).await.err(),
            templates.versions(made.id, None, 1, TemplateVersionView::from).await.err(),
            templates.version(made.id, 1).await.err(),
            templates.restore(made.id, 1).await.err(),
            templates.delete(made.id).await.err(),
        ] {
            assert!(matches!(gone, Some(Error::NotFound { .. })), "{gone:?}");
        }
    }
}

on_each_database! {
    async fn those_with_a_locale_fall_back_to_one_that_stays_as_long_as_they_do(kind: Database) {
        let stage = Stage::new(kind).await;
        let templates = node(&stage);
        let alone = make(&templates, "a", SMS, Some("de"), "x").await.err();
        assert!(matches!(&alone, Some(Error::Invalid(fields)) if fields[0].field == "locale"), "{alone:?}");
        let base = make(&templates, "a", SMS, None, "x").await.unwrap();
        let de = make(&templates, "a", SMS, Some("de"), "y").await.unwrap();
        for (channel, locale) in [(SMS, Some("DE")), (SMS, None)] {
            assert!(matches!(make(&templates, "a", channel, locale, "z").await, Err(Error::Conflict(_))));
        }
        let push = make(&templates, "a", ChannelKind::Push, None, "each channel has its own").await.unwrap();
        assert!(matches!(templates.delete(base.id).await, Err(Error::Conflict(_))));
        let names = |filter: TemplateListFilter| {
            let templates = &templates;
            async move { templates.list(filter, None, 10, TemplateView::from).await.unwrap().0.into_iter().map(|t| t.id).collect::<Vec<_>>() }
        };
        assert_eq!(names(TemplateListFilter::default()).await, [base.id, de.id, push.id]);
        assert_eq!(names(TemplateListFilter { channel: Some(SMS), ..TemplateListFilter::default() }).await, [base.id, de.id]);
        assert_eq!(names(TemplateListFilter { locale: Some("de".parse().unwrap()), ..TemplateListFilter::default() }).await, [de.id]);
        assert!(names(TemplateListFilter { name: Some("b".into()), ..TemplateListFilter::default() }).await.is_empty());
        templates.delete(de.id).await.unwrap();
        templates.delete(base.id).await.unwrap();
        assert_eq!(templates.names(ChannelKind::Push).await.unwrap(), ["a"]);
        assert!(templates.names(SMS).await.unwrap().is_empty());
    }
}

on_each_database! {
    async fn what_changes_holds_here_at_once_and_at_other_nodes_soon(kind: Database) {
        let stage = Stage::new(kind).await;
        let (here, there) = (node(&stage), node(&stage));
        assert_eq!(said(&here, "a", None).await, None);
        assert_eq!(said(&there, "a", None).await, None);
        let base = make(&here, "a", SMS, None, "one").await.unwrap();
        assert_eq!(said(&here, "a", Some("de-AT")).await, Some((1, "one".into())));
        let german = make(&here, "a", SMS, Some("de"), "eins").await.unwrap();
        assert_eq!(said(&here, "a", Some("de-AT")).await, Some((1, "eins".into())));
        here.patch(german.id, to("zwei")).await.unwrap();
        assert_eq!(said(&here, "a", Some("de")).await, Some((2, "zwei".into())));
        assert_eq!(said(&here, "a", Some("fr")).await, Some((1, "one".into())));
        let kept = here.variants("a", SMS).await.unwrap().unwrap();
        assert!(std::sync::Arc::ptr_eq(&kept, &here.variants("a", SMS).await.unwrap().unwrap()), "read once");

        let began = Instant::now();
        while said(&there, "a", Some("de")).await != Some((2, "zwei".into())) {
            assert!(began.elapsed() < Duration::from_secs(60), "the other node hears of it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        here.delete(german.id).await.unwrap();
        here.delete(base.id).await.unwrap();
        assert_eq!(said(&here, "a", Some("de")).await, None);
        let missing = here.named("template", "a", SMS).await.err();
        assert!(matches!(&missing, Some(Error::Invalid(fields)) if fields[0].field == "template"), "{missing:?}");
        assert_eq!(here.variants("No Name", SMS).await.unwrap().map(|_| ()), None);
    }
}

on_each_database! {
    async fn two_changes_at_once_are_two_versions(kind: Database) {
        let stage = Stage::new(kind).await;
        let templates = node(&stage);
        let made = make(&templates, "a", SMS, None, "0").await.unwrap();
        let changes = (1..=8).map(|n| {
            let templates = templates.clone();
            tokio::spawn(async move { templates.patch(made.id, to(&n.to_string())).await.unwrap().version })
        });
        let mut versions = Vec::new();
        for change in changes.collect::<Vec<_>>() {
            versions.push(change.await.unwrap());
        }
        versions.sort_unstable();
        assert_eq!(versions, (2..=9).collect::<Vec<_>>());
        assert_eq!(numbers(&templates, made.id).await, (1..=9).rev().collect::<Vec<_>>());
    }
}

on_each_database! {
    async fn a_base_that_is_deleted_meanwhile_leaves_no_orphan(kind: Database) {
        let stage = Stage::new(kind).await;
        let templates = node(&stage);
        for round in 0..10 {
            let name = format!("a{round}");
            let base = make(&templates, &name, SMS, None, "x").await.unwrap();
            let (deleting, making) = (templates.clone(), templates.clone());
            let delete = tokio::spawn(async move { deleting.delete(base.id).await });
            let make = tokio::spawn(async move { make(&making, &name, SMS, Some("de"), "y").await });
            match (delete.await.unwrap(), make.await.unwrap()) {
                (Ok(()), Err(Error::Invalid(_))) | (Err(Error::Conflict(_)), Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
