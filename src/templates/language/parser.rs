//! Parses templates and conditions. What could make it recurse is counted first.

mod expression;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::lexer::{Lexer, Opening, Token};
use super::line_of;
use super::syntax::{Block, Branch, Expr, Loop, Node};

/// Operators, fields and filters in one tag. The tree of an expression is no deeper than this.
const MOST_OPERATIONS: usize = 100;
/// Brackets, arguments and signs inside each other.
const DEEPEST_EXPRESSION: usize = 20;
/// Tags inside each other.
const DEEPEST_BLOCK: usize = 16;
/// Branches of one `if`.
const MOST_BRANCHES: usize = 100;
/// Elements of a list of constants.
const LONGEST_LIST: usize = 1000;
/// Characters of a word in an error message.
const SHOWN: usize = 60;

/// Words that are no names.
const KEYWORDS: &[&str] = &["and", "or", "not", "in", "is", "if", "else", "elif", "for"];

/// A template and what it asks of its data.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) blocks: Vec<Block>,
    pub(super) names: BTreeSet<String>,
    /// Names with the fields that are asked of them, and whether the text goes without them nowhere.
    pub(super) paths: BTreeMap<String, bool>,
}

/// Parses a template.
///
/// # Errors
/// A syntax error in words, with its line.
pub(super) fn template(source: &str) -> Result<Parsed, String> {
    // as Jinja does: an editor's last line break is no part of the text
    let source = source.strip_suffix('\n').unwrap_or(source);
    let source = source.strip_suffix('\r').unwrap_or(source);
    let mut parser = Parser::new(source);
    match parser.body(&[]) {
        Ok((blocks, _)) => {
            let mut paths = BTreeMap::new();
            for (path, is_required) in parser.paths {
                *paths.entry(path).or_insert(false) |= is_required;
            }
            Ok(Parsed { blocks, names: parser.names, paths })
        }
        Err(why) => Err(format!("syntax error in line {}: {why}", line_of(source, parser.at))),
    }
}

/// Parses an expression that has nothing around it.
///
/// # Errors
/// A syntax error in words.
pub(super) fn expression(source: &str) -> Result<Expr, String> {
    let mut parser = Parser::new(source);
    let parsed = parser.advance().and_then(|()| {
        let expression = parser.expression()?;
        match parser.token {
            Token::End => Ok(expression),
            _ => Err(parser.unexpected("the end of the condition")),
        }
    });
    parsed.map_err(|why| format!("syntax error: {why}"))
}

struct Parser<'s> {
    source: &'s str,
    lexer: Lexer<'s>,
    token: Token<'s>,
    /// Bytes of the token.
    span: Range<usize>,
    /// The end of the token before.
    ended: usize,
    /// The offset that an error is reported at.
    at: usize,
    operations: usize,
    depth: usize,
    blocks: usize,
    /// The names that the loops around bind, the innermost last.
    locals: Vec<&'s str>,
    loops: usize,
    names: BTreeSet<String>,
    /// In their order, each with whether a value is required there.
    paths: Vec<(String, bool)>,
}

type Parsing<T> = Result<T, String>;

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Self {
        Self {
            source,
            lexer: Lexer::new(source),
            token: Token::End,
            span: 0..0,
            ended: 0,
            at: 0,
            operations: 0,
            depth: 0,
            blocks: 0,
            locals: Vec::new(),
            loops: 0,
            names: BTreeSet::new(),
            paths: Vec::new(),
        }
    }

    fn advance(&mut self) -> Parsing<()> {
        self.ended = self.span.end;
        self.at = self.lexer.at();
        (self.token, self.span) = self.lexer.token()?;
        self.at = self.span.start;
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> String {
        let token: String = self.token.describe().chars().take(SHOWN).collect();
        format!("unexpected {token}, expected {expected}")
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(found) if found == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.token, Token::Word(found) if found == word)
    }

    /// Skips a sign, if it is there.
    fn skips(&mut self, sign: &str) -> Parsing<bool> {
        let is_there = self.is_sign(sign);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn skips_word(&mut self, word: &str) -> Parsing<bool> {
        let is_there = self.is_word(word);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn expect(&mut self, sign: &str) -> Parsing<()> {
        if self.skips(sign)? { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    /// The word here, which must be a name.
    fn name(&mut self) -> Parsing<&'s str> {
        match self.token {
            Token::Word(word) if !KEYWORDS.contains(&word) => {
                self.advance()?;
                Ok(word)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn close(&mut self, opening: Opening) -> Parsing<()> {
        // the text behind it is read by the lexer's other half
        if self.token == Token::Close(opening) {
            return Ok(());
        }
        Err(self.unexpected(&Token::Close(opening).describe()))
    }

    fn expr(&self, start: usize, node: Node) -> Expr {
        Expr { node, span: start..self.ended }
    }

    /// Counts an operator, a field or a filter of the expression.
    fn count(&mut self) -> Parsing<()> {
        self.operations += 1;
        if self.operations > MOST_OPERATIONS {
            return Err(format!("an expression has at most {MOST_OPERATIONS} operators, fields and filters"));
        }
        Ok(())
    }

    /// Parses something that is inside something else.
    fn inside<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsing<T>) -> Parsing<T> {
        self.count()?;
        self.depth += 1;
        if self.depth > DEEPEST_EXPRESSION {
            return Err(format!("an expression is nested at most {DEEPEST_EXPRESSION} deep"));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Parses text and tags up to a tag with one of these words, which it returns; none at the end.
    fn body(&mut self, ends: &[&'static str]) -> Parsing<(Vec<Block>, Option<&'static str>)> {
        let mut blocks = Vec::new();
        loop {
            self.at = self.lexer.at();
            let opening = self.lexer.text(|range| {
                if !range.is_empty() {
                    blocks.push(Block::Text(range));
                }
            })?;
            self.operations = 0;
            match opening {
                None => {
                    self.at = self.source.len();
                    return match ends.last() {
                        None => Ok((blocks, None)),
                        Some(end) => Err(format!("unexpected end of the text, expected `{{% {end} %}}`")),
                    };
                }
                Some(Opening::Emit) => {
                    self.advance()?;
                    blocks.push(Block::Emit(self.expression()?));
                    self.close(Opening::Emit)?;
                }
                Some(Opening::Statement) => {
                    self.advance()?;
                    if let Some(end) = ends.iter().find(|end| self.is_word(end)) {
                        self.advance()?;
                        return Ok((blocks, Some(end)));
                    }
                    blocks.push(self.statement()?);
                }
            }
        }
    }

    fn statement(&mut self) -> Parsing<Block> {
        let Token::Word(word) = self.token else { return Err(self.unexpected("the name of a tag")) };
        if !["if", "for"].contains(&word) {
            let shown: String = word.chars().take(SHOWN).collect();
            return Err(match word {
                "elif" | "else" | "endif" | "endfor" => format!("`{shown}` has no beginning"),
                "set" | "with" | "macro" | "call" | "do" => {
                    format!("there is no tag `{shown}`: a text is no program")
                }
                _ => format!("there is no tag `{shown}`; the tags are `if`, `for` and `raw`"),
            });
        }
        self.blocks += 1;
        if self.blocks > DEEPEST_BLOCK {
            return Err(format!("tags are nested at most {DEEPEST_BLOCK} deep"));
        }
        self.advance()?;
        let block = if word == "if" { self.branches() } else { self.repetition() };
        self.blocks -= 1;
        block
    }

    fn branches(&mut self) -> Parsing<Block> {
        let mut branches: Vec<Branch> = Vec::new();
        let mut condition = Some(self.condition()?);
        loop {
            self.close(Opening::Statement)?;
            if branches.len() == MOST_BRANCHES {
                return Err(format!("an `if` has at most {MOST_BRANCHES} branches"));
            }
            let ends: &[&str] = if condition.is_some() { &["elif", "else", "endif"] } else { &["endif"] };
            let (body, end) = self.body(ends)?;
            branches.push(Branch { condition: condition.take(), body });
            match end {
                Some("elif") => condition = Some(self.condition()?),
                Some("else") => {}
                _ => break,
            }
        }
        self.close(Opening::Statement)?;
        Ok(Block::If(branches))
    }

    /// A condition. One that is a name asks whether it has a value.
    fn condition(&mut self) -> Parsing<Expr> {
        let condition = self.expression()?;
        let path = self.last_path_of(&condition);
        self.goes_without(path);
        Ok(condition)
    }

    fn repetition(&mut self) -> Parsing<Block> {
        let mut names = vec![self.name()?];
        while self.skips(",")? {
            self.count()?;
            names.push(self.name()?);
        }
        if !self.skips_word("in")? {
            return Err(self.unexpected("`in`"));
        }
        let list = self.alternatives()?;
        let slot = self.locals.len();
        self.locals.extend(&names);
        let filter = if self.skips_word("if")? { Some(self.expression()?) } else { None };
        if self.is_word("recursive") {
            return Err("loops are not recursive".into());
        }
        self.close(Opening::Statement)?;
        self.loops += 1;
        let (body, end) = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        self.locals.truncate(slot);
        let mut otherwise = Vec::new();
        if end == Some("else") {
            self.close(Opening::Statement)?;
            otherwise = self.body(&["endfor"])?.0;
        }
        self.close(Opening::Statement)?;
        Ok(Block::For(Box::new(Loop { names: names.len(), slot, list, filter, body, otherwise })))
    }
}
