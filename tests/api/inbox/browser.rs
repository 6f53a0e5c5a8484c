//! The element `<fanfare-inbox>` in a real browser, on a page of another origin.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use serde_json::json;

use super::{HERE, KEY, deliver, keyed, path, token};
use crate::on_each_database;
use crate::support::Service;
use crate::support::chromium::Chromium;

/// A server with one page on another origin than the service's, like the user's shop.
struct Shop {
    origin: String,
    page: Arc<OnceLock<String>>,
}

impl Shop {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let page = Arc::new(OnceLock::<String>::new());
        let shown = Arc::clone(&page);
        std::thread::spawn(move || {
            for mut visitor in listener.incoming().flatten() {
                let _ = visitor.read(&mut [0; 8192]);
                let page = shown.get().map_or("", String::as_str);
                // a strict policy: only the page's own scripts, and no inline code
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
                     Content-Security-Policy: default-src 'none'; script-src http:; connect-src http:; style-src 'self'\r\n\r\n",
                    page.len()
                );
                let _ = visitor.write_all(format!("{head}{page}").as_bytes());
            }
        });
        Self { origin, page }
    }
}

/// The shadow root of the element.
const IN: &str = "document.querySelector('fanfare-inbox').shadowRoot";

fn texts() -> String {
    format!("[...{IN}.querySelectorAll('.text')].map((node) => node.textContent)")
}

on_each_database! {
    async fn a_page_shows_the_inbox_and_new_messages(kind: Database) {
        let shop = Shop::open();
        let settings = [HERE, ("access.api_key", KEY), ("in_app.origins", shop.origin.as_str())];
        let service = Service::start_with(kind, &settings).await;
        let evil = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>";
        let user = "anna/1";
        for text in ["The first one", evil, "Your order 1042 has shipped and arrives on Thursday."] {
            deliver(&service, user, text).await;
        }
        let token = token(&service, user, "").await;
        let base = &service.base;
        shop.page.set(format!(
            "<!doctype html><html lang=en><title>Shop</title><body><h1>Shop</h1>\
             <fanfare-inbox align=start user='{user}' token='{token}' server='{base}'></fanfare-inbox>\
             <script src='{base}/inbox.js'></script></body></html>"
        )).expect("one page");
        let mut browser = Chromium::start();
        browser.open(&shop.origin);
        browser.until(&format!("{IN}?.querySelector('.badge').textContent === '3'"));
        assert_eq!(browser.eval(&format!("{IN}.querySelector('.bell').getAttribute('aria-label')")), "Inbox, 3 unread");
        assert_eq!(browser.eval(&format!("{IN}.querySelector('.panel').hidden")), true);
        // with only the keyboard
        browser.press("Tab");
        browser.press("Enter");
        browser.until(&format!("!{IN}.querySelector('.panel').hidden"));
        browser.until(&format!("{}.length === 3", texts()));
        let shown = ["Your order 1042 has shipped and arrives on Thursday.", evil, "The first one"];
        assert_eq!(browser.eval(&texts()), json!(shown));
        assert_eq!(browser.eval(&format!("{IN}.querySelectorAll('img, script').length")), 0, "it is text");

        browser.eval(&format!("{IN}.querySelectorAll('.message')[1].click()"));
        let count = async || keyed(&service, "GET", &path(user, "/count")).await.success(200)["unread"].clone();
        browser.until(&format!("{IN}.querySelector('.badge').textContent === '2'"));
        while count().await != 2 {
            tokio::task::yield_now().await;
        }
        deliver(&service, user, "It comes while the page is open").await;
        browser.until(&format!("{}[0] === 'It comes while the page is open'", texts()));
        assert_eq!(browser.eval(&format!("{IN}.querySelector('[role=status]').textContent")), "New message: Hello");
        browser.until(&format!("{IN}.querySelector('.badge').textContent === '3'"));
        if let Ok(folder) = std::env::var("FANFARE_PICTURES") {
            std::fs::write(format!("{folder}/inbox.base64"), browser.picture()).expect("a picture");
            let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
            browser.call("Emulation.setEmulatedMedia", dark);
            browser.eval("document.documentElement.style.colorScheme = 'light dark'");
            std::fs::write(format!("{folder}/inbox-dark.base64"), browser.picture()).expect("a picture");
        }

        browser.eval(&format!("{IN}.querySelectorAll('.archive')[0].click()"));
        browser.until(&format!("{}.length === 3", texts()));
        // and changes from another device of the user
        keyed(&service, "POST", &path(user, "/read-all")).await.success(200);
        browser.until(&format!("{IN}.querySelector('.badge').hidden && !{IN}.querySelector('li.unread')"));
        browser.press("Escape");
        browser.until(&format!("{IN}.querySelector('.panel').hidden && {IN}.activeElement.className === 'bell'"));
        assert_eq!(browser.eval("document.title"), "Shop", "no code of a message ran");

        // with an invalid token the element asks the page for another one and continues with it
        browser.eval("document.addEventListener('fanfare-token', () => { window.asked = true; })");
        browser.eval("document.querySelector('fanfare-inbox').setAttribute('token', 'x')");
        browser.until("window.asked === true");
        browser.eval(&format!("document.querySelector('fanfare-inbox').setAttribute('token', '{token}')"));
        browser.until(&format!("{}.length === 3", texts()));
        let thrown: Vec<&String> = browser.said.iter().filter(|said| !said.contains("401")).collect();
        assert!(thrown.is_empty(), "{thrown:?}");
    }
}
