//! A browser driven by the Chrome DevTools Protocol over a pair of pipes, without a port or a library.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest wait for a page.
const PATIENCE: Duration = Duration::from_secs(60);

/// A headless Chromium with one page. It ends when the value is dropped.
pub struct Chromium {
    child: Child,
    orders: File,
    answers: BufReader<File>,
    session: String,
    number: u64,
    /// The console output and the uncaught errors of the pages.
    pub said: Vec<String>,
    _dir: TempDir,
}

impl Chromium {
    /// Starts Chromium. The test fails if it is missing: `scripts/setup-test` installs it.
    pub fn start() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let place = |name: &str| dir.path().join(name).display().to_string();
        let (orders, answers) = (place("orders"), place("answers"));
        let made = Command::new("mkfifo").args([&orders, &answers]).status().expect("mkfifo");
        assert!(made.success());
        // Chromium reads descriptor 3 and writes to 4, and a child process of Rust has neither
        let script = format!(
            "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
             --disable-background-networking --disable-component-update --window-size=1000,760 --lang=en-US \
             --host-resolver-rules='MAP *.example 127.0.0.1' \
             --user-data-dir='{}' --remote-debugging-pipe about:blank 3<'{orders}' 4>'{answers}'",
            place("profile"),
        );
        let mut command = Command::new("bash");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("bash");
        // opening a pipe waits until its other end is opened
        let orders = File::options().write(true).open(orders).expect("a pipe");
        let answers = BufReader::new(File::open(answers).expect("a pipe"));
        let (session, said) = (String::new(), Vec::new());
        let mut browser = Self { child, orders, answers, session, number: 0, said, _dir: dir };
        let targets = browser.call("Target.getTargets", json!({}));
        let pages = targets["targetInfos"].as_array().expect("targets").iter();
        let page = pages.clone().find(|target| target["type"] == "page").expect("a page")["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": page, "flatten": true}));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut order = json!({"id": self.number, "method": method, "params": params});
        if !self.session.is_empty() {
            order["sessionId"] = json!(self.session);
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).expect("an order");
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer).expect("an answer");
            assert_eq!(answer.pop(), Some(0), "chromium ended; scripts/setup-test installs it");
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            let name = answer["method"].as_str().unwrap_or_default();
            if ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"].contains(&name) {
                self.said.push(answer["params"].to_string());
            }
        }
    }

    /// Opens a page.
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{opened}");
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// Evaluates an expression in the page and returns its value.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression holds in the page.
    pub fn until(&mut self, expression: &str) {
        let began = Instant::now();
        while self.eval(expression) != json!(true) {
            assert!(began.elapsed() < PATIENCE, "waited for a minute for {expression}; {:?}", self.said);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses and releases a key.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            _ => 9,
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let params =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Returns a screenshot of the page: a PNG in base64.
    pub fn picture(&mut self) -> String {
        self.call("Page.captureScreenshot", json!({}))["data"].as_str().expect("a picture").to_owned()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
