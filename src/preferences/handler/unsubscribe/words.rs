//! The texts of the unsubscribe pages, in all their languages.

use actix_web::HttpRequest;
use actix_web::http::header::{AcceptLanguage, Header, Preference};

use crate::kinds::ChannelKind;
use crate::preferences::model::UnsubscribeSubject;

/// The texts of one language; `{}` is replaced by the name of the messages.
pub(super) struct PageTexts {
    /// The BCP 47 tag.
    pub(super) language: &'static str,
    pub(super) title: &'static str,
    pub(super) ask: &'static str,
    pub(super) button: &'static str,
    pub(super) button_everything: &'static str,
    pub(super) done_title: &'static str,
    pub(super) done: &'static str,
    pub(super) undo: &'static str,
    pub(super) back_title: &'static str,
    pub(super) back: &'static str,
    pub(super) no_link_title: &'static str,
    pub(super) no_link: &'static str,
    pub(super) stale_title: &'static str,
    pub(super) stale: &'static str,
    pub(super) retry_title: &'static str,
    pub(super) retry: &'static str,
    group: &'static str,
    emails: &'static str,
    channel: &'static str,
}

/// The texts of all languages. The first one is the fallback.
static ALL: [PageTexts; 4] = [
    PageTexts {
        language: "en",
        title: "Unsubscribe",
        ask: "Press the button to stop receiving {} from us.",
        button: "Unsubscribe",
        button_everything: "Unsubscribe from everything",
        done_title: "You are unsubscribed",
        done: "You will no longer receive {} from us.",
        undo: "Undo",
        back_title: "You are subscribed again",
        back: "You will receive {} from us again.",
        no_link_title: "Page not found",
        no_link: "This link is incomplete. Copy the whole link from the message.",
        stale_title: "This link is out of date",
        stale: "Nothing was changed: we no longer have the address that this link was for. Use the link in a newer message.",
        retry_title: "Please try again",
        retry: "Something went wrong. Please try again in a minute.",
        group: "messages of the kind “{}”",
        emails: "e-mails",
        channel: "messages by {}",
    },
    PageTexts {
        language: "de",
        title: "Abmelden",
        ask: "Nach einem Klick auf eine Schaltfläche bekommen Sie von uns nicht mehr: {}.",
        button: "Abmelden",
        button_everything: "Von allem abmelden",
        done_title: "Sie sind abgemeldet",
        done: "Sie bekommen von uns nicht mehr: {}.",
        undo: "Rückgängig machen",
        back_title: "Sie sind wieder angemeldet",
        back: "Sie bekommen von uns wieder: {}.",
        no_link_title: "Diese Seite gibt es nicht",
        no_link: "Dieser Link ist nicht vollständig. Kopieren Sie ihn ganz aus der Nachricht.",
        stale_title: "Dieser Link ist veraltet",
        stale: "Es wurde nichts geändert: Die Adresse zu diesem Link haben wir nicht mehr. Nehmen Sie den Link einer neueren Nachricht.",
        retry_title: "Bitte versuchen Sie es noch einmal",
        retry: "Das hat gerade nicht geklappt. Bitte versuchen Sie es in einer Minute noch einmal.",
        group: "Nachrichten der Art „{}“",
        emails: "E-Mails",
        channel: "Nachrichten über {}",
    },
    PageTexts {
        language: "ru",
        title: "Отписаться",
        ask: "Нажмите кнопку, и вы больше не будете получать от нас {}.",
        button: "Отписаться",
        button_everything: "Отписаться от всего",
        done_title: "Вы отписаны",
        done: "Вы больше не будете получать от нас {}.",
        undo: "Отменить",
        back_title: "Вы снова подписаны",
        back: "Вы снова будете получать от нас {}.",
        no_link_title: "Такой страницы нет",
        no_link: "Ссылка неполная. Скопируйте её из сообщения целиком.",
        stale_title: "Ссылка устарела",
        stale: "Ничего не изменено: адреса, для которого была эта ссылка, у нас больше нет. Воспользуйтесь ссылкой из более нового сообщения.",
        retry_title: "Попробуйте ещё раз",
        retry: "Сейчас не получилось. Попробуйте ещё раз через минуту.",
        group: "сообщения вида «{}»",
        emails: "письма",
        channel: "сообщения через {}",
    },
    PageTexts {
        language: "tr",
        title: "Abonelikten çık",
        ask: "Bir düğmeye basın; artık bizden şunları almayacaksınız: {}.",
        button: "Abonelikten çık",
        button_everything: "Hepsinden çık",
        done_title: "Abonelikten çıktınız",
        done: "Artık bizden şunları almayacaksınız: {}.",
        undo: "Geri al",
        back_title: "Yeniden abonesiniz",
        back: "Bizden yeniden şunları alacaksınız: {}.",
        no_link_title: "Böyle bir sayfa yok",
        no_link: "Bu bağlantı eksik. İletideki bağlantının tamamını kopyalayın.",
        stale_title: "Bu bağlantının süresi geçmiş",
        stale: "Hiçbir şey değiştirilmedi: bu bağlantının adresi artık bizde yok. Daha yeni bir iletideki bağlantıyı kullanın.",
        retry_title: "Lütfen yeniden deneyin",
        retry: "Şu anda olmadı. Lütfen bir dakika sonra yeniden deneyin.",
        group: "“{}” türündeki iletiler",
        emails: "e-postalar",
        channel: "{} iletileri",
    },
];

impl PageTexts {
    /// Returns the texts in the reader's language, by `Accept-Language` (RFC 9110, 12.5.4).
    pub(super) fn of(request: &HttpRequest) -> &'static Self {
        let wanted = AcceptLanguage::parse(request).map(|header| header.ranked()).unwrap_or_default();
        let known = wanted.iter().find_map(|range| match range {
            Preference::Specific(tag) => {
                let language = tag.primary_language().to_ascii_lowercase();
                ALL.iter().find(|words| words.language == language)
            }
            Preference::Any => None,
        });
        let [first, ..] = &ALL;
        known.unwrap_or(first)
    }

    /// Returns the name of a subject's messages.
    pub(super) fn name(&self, subject: &UnsubscribeSubject) -> String {
        match (&subject.group, subject.channel) {
            (Some(group), _) => self.group.replace("{}", group),
            (None, ChannelKind::Email) => self.emails.to_owned(),
            (None, channel) => self.channel.replace("{}", channel.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_page_follows_the_language_of_its_reader() {
        for (accepted, language) in [
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("fr, ru;q=0.5, tr;q=0.7", "tr"),
            ("RU", "ru"),
            ("fr", "en"),
            ("*", "en"),
            ("", "en"),
            ("en-GB, de;q=0.1", "en"),
            (";;,=", "en"),
        ] {
            let request =
                TestRequest::default().insert_header(("Accept-Language", accepted)).to_http_request();
            assert_eq!(PageTexts::of(&request).language, language, "{accepted}");
        }
        assert_eq!(PageTexts::of(&TestRequest::default().to_http_request()).language, "en");
    }

    #[test]
    fn what_is_named_stands_in_every_language() {
        for words in &ALL {
            for text in [words.ask, words.done, words.back, words.group, words.channel] {
                assert_eq!(text.matches("{}").count(), 1, "{text}");
            }
        }
    }
}
