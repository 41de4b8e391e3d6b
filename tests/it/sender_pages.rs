//! The pages of `docs/senders`, followed to the letter: what `init` writes is the route of the page, all routes together
//! hold, and the command of each page sends a delivery that the application gets.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::{Application, Program};

/// What is taken from a page.
struct Page {
    name: String,
    route: String,
    /// The lines after `$ `.
    commands: Vec<String>,
}

fn pages() -> Vec<Page> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/senders");
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".md") else { continue };
        if name == "README" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let block = text.split("   ```toml\n").nth(1).unwrap().split("   ```").next().unwrap();
        let route = block.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        let commands = text.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect();
        pages.push(Page { name: name.to_owned(), route, commands });
    }
    assert!(pages.len() > 180);
    pages
}

/// Runs a command of a page as a shell does, in the folder, with the binary on the path. With the shell's own path, because
/// a name that is looked for on another PATH is started with fork(2), which copies the page tables of all tests.
fn shell(folder: &Folder, command: &str) -> Output {
    let binary = Path::new(BINARY).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    Command::new("/bin/sh").args(["-c", command]).current_dir(folder.path("")).env("PATH", path).output().unwrap()
}

/// Does something with each page on a few threads; what went wrong.
fn for_each(pages: &[Page], act: impl Fn(&Page) -> Result<(), String> + Sync) -> Vec<String> {
    let left = Mutex::new(pages.iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(page) = { left.lock().unwrap().next() } {
                    if let Err(why) = act(page) {
                        wrong.lock().unwrap().push(format!("{}: {why}", page.name));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// `init` writes the route of the page. 1 is for senders whose own key is still missing.
fn initialize(folder: &Folder, page: &Page) -> Result<(), String> {
    let command = page.commands.iter().find(|it| it.starts_with("countersign init")).ok_or("no init")?;
    let output = shell(folder, &format!("{command} -c {}.toml", page.name));
    if output.status.code() != Some(i32::from(page.route.contains("public_keys"))) {
        return Err(format!("{output:?}"));
    }
    let written = fs::read_to_string(folder.path(&format!("{}.toml", page.name))).map_err(|it| it.to_string())?;
    if written.ends_with(&page.route) { Ok(()) } else { Err(format!("the route of the page is not in\n{written}")) }
}

#[test]
fn each_page_leads_to_a_verified_delivery() {
    let application = Application::answering(OK);
    let folder = Folder::new();
    let pages = pages();
    let wrong = for_each(&pages, |page| initialize(&folder, page));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A public key is the sender's: nothing can be sent there.
    let (open, tried): (Vec<Page>, Vec<Page>) =
        pages.into_iter().partition(|page| page.route.contains("public_keys") || trial(page).is_none());
    let names: BTreeSet<&str> = open.iter().map(|page| page.name.as_str()).collect();
    assert!(names.contains("discord"), "{names:?}");
    // Those with a secret have more in the signature than `sign` writes.
    let with_secret: BTreeSet<&str> =
        open.iter().filter(|page| page.route.contains("\nsecrets = ")).map(|page| page.name.as_str()).collect();
    let known = [
        "adyen",
        "braintree",
        "dialpad",
        "dropbox-sign",
        "mailgun",
        "mailgun-routes",
        "microsoft-graph",
        "nicepay",
        "plivo",
    ];
    assert_eq!(with_secret, BTreeSet::from(known));
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routes: String = tried.iter().map(|page| page.route.clone() + "replay.mode = 'off'\n\n").collect();
    folder.write(
        "countersign.toml",
        &format!(
            "[[listener]]\naddress = '{address}'\n[upstream]\naddress = '{}'\n[access_log]\noutput = 'off'\n{routes}",
            application.address()
        ),
    );
    let program = Program::run(&folder.path("countersign.toml"));
    program.await_line(" ready: ");
    let wrong = for_each(&tried, |page| {
        let command = trial(page).unwrap().replace("127.0.0.1:8080", &address.to_string());
        let output = shell(&folder, &command);
        let answer = String::from_utf8_lossy(&output.stdout);
        if answer.contains("HTTP/1.1 200") { Ok(()) } else { Err(format!("{command}\n{answer}\n{output:?}")) }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let arrived: BTreeSet<String> =
        application.requests().iter().map(|it| it.field("X-Countersign-Scheme").to_owned()).collect();
    assert_eq!(arrived.len(), tried.len());
}

/// The command that sends a delivery.
fn trial(page: &Page) -> Option<&String> {
    page.commands.iter().find(|it| it.ends_with("| sh") || it.starts_with("curl "))
}
