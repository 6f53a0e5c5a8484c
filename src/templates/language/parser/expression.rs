//! Parses expressions, from the weakest operators to the strongest.

use super::{KEYWORDS, LONGEST_LIST, Parser, Parsing, SHOWN};
use crate::templates::language::filter_names::TemplateFilter;
use crate::templates::language::lexer::Token;
use crate::templates::language::number::Number;
use crate::templates::language::operators::{Arithmetic, Comparison};
use crate::templates::language::syntax::{Choice, Expr, ExprKind, LoopField, Test};

/// Creates the node of a binary operator.
type Binary = fn(Box<Expr>, Box<Expr>) -> ExprKind;

impl<'s> Parser<'s> {
    /// Parses `yes if condition else no`, or anything that binds more strongly.
    pub(super) fn expression(&mut self) -> Parsing<Expr> {
        let start = self.span.start;
        let mut yes = self.alternatives()?;
        while self.skips_word("if")? {
            self.count()?;
            let condition = self.alternatives()?;
            let no = if self.skips_word("else")? { Some(self.inside(Self::expression)?) } else { None };
            yes = self.expr(start, ExprKind::Choose(Box::new(Choice { condition, yes, no })));
        }
        Ok(yes)
    }

    /// Parses operators of one precedence, from the left.
    fn chain(
        &mut self,
        next: fn(&mut Self) -> Parsing<Expr>,
        operator: fn(&Token<'s>) -> Option<Binary>,
    ) -> Parsing<Expr> {
        let start = self.span.start;
        let mut left = next(self)?;
        while let Some(node) = operator(&self.token) {
            self.count()?;
            self.advance()?;
            let right = next(self)?;
            left = self.expr(start, node(Box::new(left), Box::new(right)));
        }
        Ok(left)
    }

    /// Parses an expression that binds more strongly than `if`.
    pub(super) fn alternatives(&mut self) -> Parsing<Expr> {
        self.chain(Self::conjunction, |token| match token {
            Token::Word("or") => Some(ExprKind::Or),
            _ => None,
        })
    }

    fn conjunction(&mut self) -> Parsing<Expr> {
        self.chain(Self::negation, |token| match token {
            Token::Word("and") => Some(ExprKind::And),
            _ => None,
        })
    }

    fn negation(&mut self) -> Parsing<Expr> {
        let start = self.span.start;
        if self.skips_word("not")? {
            let negated = self.inside(Self::negation)?;
            return Ok(self.expr(start, ExprKind::Not(Box::new(negated))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsing<Expr> {
        let start = self.span.start;
        let first = self.sum()?;
        let mut others = Vec::new();
        loop {
            let comparison = match &self.token {
                Token::Sign("==") => Comparison::Equal,
                Token::Sign("!=") => Comparison::NotEqual,
                Token::Sign("<") => Comparison::Less,
                Token::Sign("<=") => Comparison::LessOrEqual,
                Token::Sign(">") => Comparison::Greater,
                Token::Sign(">=") => Comparison::GreaterOrEqual,
                Token::Word("in") => Comparison::In,
                Token::Word("not") => Comparison::NotIn,
                _ => break,
            };
            self.count()?;
            self.advance()?;
            if comparison == Comparison::NotIn && !self.skips_word("in")? {
                return Err(self.unexpected("`in`"));
            }
            others.push((comparison, self.sum()?));
        }
        if others.is_empty() {
            return Ok(first);
        }
        Ok(self.expr(start, ExprKind::Compare(Box::new(first), others)))
    }

    fn sum(&mut self) -> Parsing<Expr> {
        self.chain(Self::concatenation, |token| match token {
            Token::Sign("+") => Some(|a, b| ExprKind::Arithmetic(Arithmetic::Add, a, b)),
            Token::Sign("-") => Some(|a, b| ExprKind::Arithmetic(Arithmetic::Subtract, a, b)),
            _ => None,
        })
    }

    fn concatenation(&mut self) -> Parsing<Expr> {
        self.chain(Self::product, |token| match token {
            Token::Sign("~") => Some(ExprKind::Concat),
            _ => None,
        })
    }

    fn product(&mut self) -> Parsing<Expr> {
        self.chain(Self::power, |token| match token {
            Token::Sign("*") => Some(|a, b| ExprKind::Arithmetic(Arithmetic::Multiply, a, b)),
            Token::Sign("/") => Some(|a, b| ExprKind::Arithmetic(Arithmetic::Divide, a, b)),
            Token::Sign("//") => Some(|a, b| ExprKind::Arithmetic(Arithmetic::FloorDivide, a, b)),
            Token::Sign("%") => Some(|a, b| ExprKind::Arithmetic(Arithmetic::Remainder, a, b)),
            _ => None,
        })
    }

    fn power(&mut self) -> Parsing<Expr> {
        self.chain(Self::filtered, |token| match token {
            Token::Sign("**") => Some(|a, b| ExprKind::Arithmetic(Arithmetic::Power, a, b)),
            _ => None,
        })
    }

    /// Parses a value with its filters and tests.
    fn filtered(&mut self) -> Parsing<Expr> {
        let start = self.span.start;
        let mut value = self.signed()?;
        loop {
            if self.skips("|")? {
                self.count()?;
                value = self.filter(start, value)?;
            } else if self.skips_word("is")? {
                self.count()?;
                value = self.test(start, value)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn filter(&mut self, start: usize, value: Expr) -> Parsing<Expr> {
        let path = self.last_path_of(&value);
        let name = self.name()?;
        let filter = TemplateFilter::named(name)?;
        let mut arguments = Vec::new();
        if self.skips("(")? {
            while !self.is_sign(")") {
                arguments.push(self.inside(Self::expression)?);
                if !self.skips(",")? {
                    break;
                }
            }
            self.expect(")")?;
        }
        filter.check_arguments(name, arguments.len())?;
        if filter == TemplateFilter::Default {
            self.goes_without(path);
        }
        Ok(self.expr(start, ExprKind::Filter(filter, Box::new(value), arguments)))
    }

    fn test(&mut self, start: usize, value: Expr) -> Parsing<Expr> {
        let path = self.last_path_of(&value);
        self.goes_without(path);
        let is_negated = self.skips_word("not")?;
        let name = self.name()?;
        let Some((_, test)) = Test::ALL.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = Test::ALL.iter().map(|(name, _)| format!("`{name}`")).collect();
            return Err(format!("unknown test `{name}`; the tests are {}", known.join(", ")));
        };
        let tested = self.expr(start, ExprKind::Test(*test, Box::new(value)));
        Ok(if is_negated { self.expr(start, ExprKind::Not(Box::new(tested))) } else { tested })
    }

    /// Returns the index of the value's path, which is the last one, if the value is a path.
    pub(super) fn last_path_of(&self, value: &Expr) -> Option<usize> {
        matches!(value.node, ExprKind::Name(_) | ExprKind::Field(..))
            .then(|| self.paths.len().wrapping_sub(1))
    }

    /// Marks a path as not required, because of a `default` or a test.
    pub(super) fn goes_without(&mut self, path: Option<usize>) {
        if let Some((_, is_required)) = path.and_then(|place| self.paths.get_mut(place)) {
            *is_required = false;
        }
    }

    /// Parses a value with an optional minus, which applies to the whole path.
    fn signed(&mut self) -> Parsing<Expr> {
        let start = self.span.start;
        if self.skips("-")? {
            let value = self.inside(Self::signed)?;
            return Ok(self.expr(start, ExprKind::Negative(Box::new(value))));
        }
        let value = self.primary()?;
        self.postfix(start, value)
    }

    fn postfix(&mut self, start: usize, mut value: Expr) -> Parsing<Expr> {
        let mut path = match &value.node {
            ExprKind::Name(name) => Some(name.to_string()),
            _ => None,
        };
        loop {
            if self.skips(".")? {
                self.count()?;
                match self.token {
                    Token::Word(name) => {
                        if let Some(path) = &mut path {
                            path.push('.');
                            path.push_str(name);
                        }
                        self.advance()?;
                        value = self.expr(start, ExprKind::Field(Box::new(value), name.into()));
                        continue;
                    }
                    Token::Whole(place) => {
                        let place = self.expr(self.span.start, ExprKind::Number(Number::Whole(place)));
                        self.advance()?;
                        value = self.expr(start, ExprKind::Index(Box::new(value), Box::new(place)));
                    }
                    _ => return Err(self.unexpected("the name of a field")),
                }
            } else if self.skips("[")? {
                value = self.subscript(start, value)?;
            } else if self.is_sign("(") {
                let called = self.source.get(value.span.clone()).unwrap_or_default();
                let called: String = called.chars().take(SHOWN).collect();
                return Err(format!("unknown function `{called}`: templates cannot call functions"));
            } else {
                self.paths.extend(path.map(|path| (path, true)));
                return Ok(value);
            }
            // a path ends before an index of a list
            self.paths.extend(path.take().map(|path| (path, true)));
        }
    }

    fn subscript(&mut self, start: usize, value: Expr) -> Parsing<Expr> {
        let value = Box::new(value);
        let from = if self.is_sign(":") { None } else { Some(self.inside(Self::expression)?) };
        let node = if self.skips(":")? {
            let to = if self.is_sign("]") { None } else { Some(self.inside(Self::expression)?) };
            ExprKind::Slice(value, from.map(Box::new), to.map(Box::new))
        } else {
            ExprKind::Index(value, Box::new(from.ok_or_else(|| self.unexpected("an index or a name"))?))
        };
        self.expect("]")?;
        Ok(self.expr(start, node))
    }

    fn primary(&mut self) -> Parsing<Expr> {
        let start = self.span.start;
        let node = match std::mem::replace(&mut self.token, Token::End) {
            Token::Text(text) => ExprKind::Text(text.into()),
            Token::Whole(whole) => ExprKind::Number(Number::Whole(whole)),
            Token::Float(value) => ExprKind::Number(Number::Float(value)),
            Token::Word(word) if !KEYWORDS.contains(&word) => return self.word(start, word),
            Token::Sign("(") => {
                self.advance()?;
                let mut inner = self.inside(Self::expression)?;
                self.expect(")")?;
                inner.span = start..self.ended;
                return Ok(inner);
            }
            Token::Sign("[") => {
                self.advance()?;
                let list = self.list()?;
                self.expect("]")?;
                return Ok(self.expr(start, ExprKind::List(list)));
            }
            Token::Sign("{") => return Err("objects cannot be written in templates".into()),
            other => {
                self.token = other;
                return Err(self.unexpected("a value"));
            }
        };
        self.advance()?;
        Ok(self.expr(start, node))
    }

    fn word(&mut self, start: usize, word: &'s str) -> Parsing<Expr> {
        self.advance()?;
        let node = match word {
            "true" | "True" => ExprKind::Bool(true),
            "false" | "False" => ExprKind::Bool(false),
            "none" | "None" => ExprKind::None,
            "loop" => return self.of_loop(start),
            _ => match self.locals.iter().rposition(|local| *local == word) {
                Some(slot) => ExprKind::Local(slot),
                None => {
                    self.names.insert(word.to_owned());
                    ExprKind::Name(word.into())
                }
            },
        };
        Ok(self.expr(start, node))
    }

    fn of_loop(&mut self, start: usize) -> Parsing<Expr> {
        if self.loops == 0 {
            return Err("`loop` is defined only inside a `for`".into());
        }
        let known = || LoopField::ALL.iter().map(|(name, _)| format!("`loop.{name}`")).collect::<Vec<_>>();
        let field = if self.skips(".")? { self.name()? } else { "" };
        let Some((_, field)) = LoopField::ALL.iter().find(|(name, _)| *name == field) else {
            return Err(format!("a loop has {}", known().join(", ")));
        };
        Ok(self.expr(start, ExprKind::Loop(*field)))
    }

    /// Parses the constants of a list, up to its closing bracket.
    fn list(&mut self) -> Parsing<Vec<serde_json::Value>> {
        let mut items = Vec::new();
        while !self.is_sign("]") {
            if items.len() == LONGEST_LIST {
                return Err(format!("a list has at most {LONGEST_LIST} elements"));
            }
            let is_negative = self.skips("-")?;
            let item = match &self.token {
                Token::Text(text) if !is_negative => text.as_ref().into(),
                Token::Whole(whole) => {
                    let whole = i64::try_from(*whole).map_err(|_| "a number of a list is too large")?;
                    if is_negative { (-whole).into() } else { whole.into() }
                }
                Token::Float(value) => if is_negative { -value } else { *value }.into(),
                Token::Word("true" | "True") if !is_negative => true.into(),
                Token::Word("false" | "False") if !is_negative => false.into(),
                _ => return Err(format!("{}: a list has only constants", self.unexpected("a constant"))),
            };
            items.push(item);
            self.advance()?;
            if !self.skips(",")? {
                break;
            }
        }
        Ok(items)
    }
}
