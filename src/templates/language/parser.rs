//! Parses templates and conditions. Everything that makes the parser recurse is counted first.

mod expression;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::failure::line_of;
use super::lexer::{Lexer, TagKind, Token};
use super::syntax::{Block, Branch, Expr, ExprKind, Loop};

/// The most operators, fields and filters in one tag, which also bounds the depth of its tree.
const MOST_OPERATIONS: usize = 100;
/// The deepest nesting of brackets, arguments and signs.
const DEEPEST_EXPRESSION: usize = 20;
/// The deepest nesting of tags.
const DEEPEST_BLOCK: usize = 16;
/// The most branches of one `if`.
const MOST_BRANCHES: usize = 100;
/// The most elements of a list of constants.
const LONGEST_LIST: usize = 1000;
/// The most characters of a word in an error message.
const SHOWN: usize = 60;

/// The words that cannot be names.
const KEYWORDS: &[&str] = &["and", "or", "not", "in", "is", "if", "else", "elif", "for"];

/// A parsed template, and the data that it uses.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) blocks: Vec<Block>,
    pub(super) names: BTreeSet<String>,
    /// The names with their fields, each with true if it is required somewhere.
    pub(super) paths: BTreeMap<String, bool>,
}

/// Parses a template.
///
/// # Errors
/// The syntax error, with its line.
pub(super) fn template(source: &str) -> Result<Parsed, String> {
    // as in Jinja, the final line break of an editor is not a part of the text
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

/// Parses an expression without text around it.
///
/// # Errors
/// The syntax error.
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
    /// The position of the token.
    span: Range<usize>,
    /// The end of the previous token.
    ended: usize,
    /// The offset at which an error is reported.
    at: usize,
    operations: usize,
    depth: usize,
    blocks: usize,
    /// The names that the enclosing loops bind, the innermost last.
    locals: Vec<&'s str>,
    loops: usize,
    names: BTreeSet<String>,
    /// All paths in their order, each with true if its value is required.
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

    /// Skips a sign, and returns true, if it is the next token.
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

    /// Parses a name.
    fn name(&mut self) -> Parsing<&'s str> {
        match self.token {
            Token::Word(word) if !KEYWORDS.contains(&word) => {
                self.advance()?;
                Ok(word)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn close(&mut self, opening: TagKind) -> Parsing<()> {
        // no advance: the text after the tag is read by `Lexer::text`
        if self.token == Token::Close(opening) {
            return Ok(());
        }
        Err(self.unexpected(&Token::Close(opening).describe()))
    }

    fn expr(&self, start: usize, node: ExprKind) -> Expr {
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

    /// Parses a nested expression.
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

    /// Parses text and tags up to a tag with one of these words, which it returns, or `None` at the end.
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
                Some(TagKind::Emit) => {
                    self.advance()?;
                    blocks.push(Block::Emit(self.expression()?));
                    self.close(TagKind::Emit)?;
                }
                Some(TagKind::Statement) => {
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
                "elif" | "else" | "endif" | "endfor" => format!("unexpected tag `{shown}`"),
                "set" | "with" | "macro" | "call" | "do" => {
                    format!("unknown tag `{shown}`: templates cannot assign or define")
                }
                _ => format!("unknown tag `{shown}`; the tags are `if`, `for` and `raw`"),
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
            self.close(TagKind::Statement)?;
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
        self.close(TagKind::Statement)?;
        Ok(Block::If(branches))
    }

    /// Parses a condition. A name alone tests for a value, so it is not required.
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
            return Err("recursive loops are not supported".into());
        }
        self.close(TagKind::Statement)?;
        self.loops += 1;
        let (body, end) = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        self.locals.truncate(slot);
        let mut otherwise = Vec::new();
        if end == Some("else") {
            self.close(TagKind::Statement)?;
            otherwise = self.body(&["endfor"])?.0;
        }
        self.close(TagKind::Statement)?;
        Ok(Block::For(Box::new(Loop { names: names.len(), slot, list, filter, body, otherwise })))
    }
}
