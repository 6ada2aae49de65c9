//! Where a passphrase comes from: a file descriptor, the environment, or a person at a terminal. Never the command line, which
//! other users can see and shells remember.

use super::session::Session;
use athena_schemas::refusal::{Code, Refusal};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};

/// The variable it may stand in.
const VARIABLE: &str = "ATHENA_PASSPHRASE";

/// Where a passphrase is read.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Passphrase {
    /// Read the passphrase from this file descriptor, such as 3 with `3<file` [env: ATHENA_PASSPHRASE]
    #[arg(long = "passphrase-fd", value_name = "N", global = true)]
    descriptor: Option<u32>,
}

impl Passphrase {
    /// The passphrase, where one can be had; `new` is asked for twice.
    ///
    /// # Errors
    /// When it cannot be read, or the second one is another.
    pub(crate) fn find(&self, session: &Session, new: bool) -> Result<Option<String>, Refusal> {
        if let Some(descriptor) = self.descriptor {
            let unreadable = |error: std::io::Error| {
                Refusal::invalid(format!("file descriptor {descriptor}: {error}"))
                    .hint("--passphrase-fd 3 3<file")
            };
            let file = File::open(format!("/dev/fd/{descriptor}")).map_err(unreadable)?;
            let mut line = String::new();
            BufReader::new(file).read_line(&mut line).map_err(unreadable)?;
            return Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()));
        }
        if let Ok(text) = std::env::var(VARIABLE) {
            return Ok(Some(text));
        }
        if session.globals.no_input || !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let first = ask("Passphrase: ")?;
        if new && ask("The same again: ")? != first {
            return Err(Refusal::invalid("the second passphrase is not the first"));
        }
        Ok(Some(first))
    }

    /// The passphrase, without which nothing can be done.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn need(&self, session: &Session, new: bool) -> Result<String, Refusal> {
        self.find(session, new)?.ok_or_else(|| {
            Refusal::invalid("a passphrase is needed, and nobody can be asked here")
                .hint(format!("--passphrase-fd N, or set {VARIABLE}"))
        })
    }
}

/// Asks at the terminal, without an echo.
fn ask(question: &str) -> Result<String, Refusal> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(unasked)?;
    ask_at(&terminal, question)
}

/// A terminal that shows nothing of what is typed and raises no signals, so that nothing ends the process before it is set
/// back; that happens when this is dropped.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a File) -> nix::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        // A read waits for a key, whoever had the terminal before.
        let waits = [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)];
        for (index, value) in waits {
            if let Some(held) = silent.control_chars.get_mut(index as usize) {
                *held = value;
            }
        }
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CLEAR: u8 = 0x15;
const SUSPEND: u8 = 0x1a;
const QUIT: u8 = 0x1c;
const DELETE: u8 = 0x7f;

fn ask_at(mut terminal: &File, question: &str) -> Result<String, Refusal> {
    let silent = Silent::new(terminal).map_err(|error| unasked(error.into()))?;
    write!(terminal, "{question}").map_err(unasked)?;
    let line = typed(terminal);
    drop(silent);
    let _ = writeln!(terminal);
    String::from_utf8(line?).map_err(|_| Refusal::invalid("the passphrase is not UTF-8"))
}

/// A line as it is typed, with the few keys that a line has.
fn typed(mut terminal: &File) -> Result<Vec<u8>, Refusal> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        let read = terminal.read(&mut byte).map_err(unasked)?;
        match byte {
            _ if read == 0 => return Err(unasked(std::io::ErrorKind::UnexpectedEof.into())),
            [b'\n' | b'\r'] => return Ok(line),
            [END] if !line.is_empty() => return Ok(line),
            [INTERRUPT | END | QUIT | SUSPEND] => {
                return Err(Refusal::new(Code::Cancelled, "no passphrase was given"));
            }
            [BACKSPACE | DELETE] => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            [CLEAR] => line.clear(),
            [byte] => line.push(byte),
        }
    }
}

fn unasked(error: std::io::Error) -> Refusal {
    Refusal::new(Code::Unavailable, format!("the terminal cannot be asked: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types at a terminal once it has asked; what the asker got, and what the terminal showed.
    fn asked(keys: &[u8]) -> (Result<String, Refusal>, Vec<u8>) {
        let pty = nix::pty::openpty(None, None).unwrap();
        let (mut person, terminal) = (File::from(pty.master), File::from(pty.slave));
        let before = tcgetattr(&terminal).unwrap();
        let (answer, shown) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask_at(&terminal, "Say: "));
            let mut shown = vec![0; 5];
            person.read_exact(&mut shown).unwrap();
            person.write_all(keys).unwrap();
            let answer = asking.join().unwrap();
            let mut rest = [0; 64];
            let more = person.read(&mut rest).unwrap();
            shown.extend_from_slice(&rest[..more]);
            (answer, shown)
        });
        assert_eq!(tcgetattr(&terminal).unwrap(), before, "the terminal is as it was");
        (answer, shown)
    }

    #[test]
    fn what_is_typed_is_not_shown_and_can_be_corrected() {
        let (answer, shown) = asked("no\u{15}se\u{e9}\u{7f}crex\u{8}t\n".as_bytes());
        assert_eq!(answer.unwrap(), "secret");
        assert_eq!(shown, b"Say: \r\n");
    }

    #[test]
    fn giving_up_leaves_the_terminal_as_it_was() {
        for key in [INTERRUPT, QUIT, SUSPEND, END] {
            let (answer, shown) = asked(&[key]);
            assert_eq!(answer.unwrap_err().code, Code::Cancelled);
            assert_eq!(shown, b"Say: \r\n");
        }
    }
}
