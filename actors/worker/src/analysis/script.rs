//! TypeScript and JavaScript, brought to a [`Tree`].

use super::tree::{Call, Comment, Function, Key, Kind, Loop, Node, Operator, Pattern, Tree};
use oxc_ast::ast::{
    Argument, ArrayExpressionElement, ArrowFunctionBody, AssignmentTarget, AssignmentTargetMaybeDefault,
    AssignmentTargetProperty, BindingPattern, ChainElement, Class, ClassElement, Declaration,
    ExportDefaultDeclarationKind, Expression, ForStatementInit, ForStatementLeft, FormalParameters,
    ImportDeclarationSpecifier, ObjectPropertyKind, Program, PropertyKey, SimpleAssignmentTarget, Statement,
    StringLiteral, TSImportEqualsDeclaration, TSModuleReference, TSNamespaceDeclaration,
    TSNamespaceDeclarationBody, TSTypeName, TemplateElement, TemplateLiteral, VariableDeclaration,
};
use oxc_ast_visit::Visit;
use oxc_span::{GetSpan, Span};
use oxc_syntax::operator::{AssignmentOperator, BinaryOperator, UnaryOperator};

/// Brings a program to its tree.
pub(super) fn lower(program: &Program<'_>, text: &str) -> Tree {
    let mut texts = Texts::default();
    texts.visit_program(program);
    let mut comments = Vec::new();
    for comment in &program.comments {
        let span = comment.content_span();
        texts.0.push((span.start, span.end));
        let content = text.get(span.start as usize..span.end as usize).unwrap_or_default();
        comments.push(Comment { at: comment.span.start, text: content.to_owned() });
    }
    texts.0.sort_unstable();
    Tree { body: statements(&program.body), comments, literals: texts.0 }
}

/// Byte ranges between the quotes of strings and templates.
#[derive(Default)]
struct Texts(Vec<(u32, u32)>);

impl<'a> Visit<'a> for Texts {
    fn visit_string_literal(&mut self, it: &StringLiteral<'a>) {
        self.0.push((it.span.start + 1, it.span.end.saturating_sub(1)));
    }

    fn visit_template_element(&mut self, it: &TemplateElement<'a>) {
        self.0.push((it.span.start, it.span.end));
    }
}

fn node(span: Span, kind: Kind) -> Node {
    Node::new(span.start, kind)
}

fn statements(list: &[Statement<'_>]) -> Vec<Node> {
    list.iter().map(statement).collect()
}

fn statement(it: &Statement<'_>) -> Node {
    let span = it.span();
    match it {
        Statement::BlockStatement(s) => node(span, Kind::Group(statements(&s.body))),
        Statement::ExpressionStatement(s) => expression(&s.expression),
        Statement::BreakStatement(_) => node(span, Kind::Leave(None)),
        Statement::ReturnStatement(s) => {
            node(span, Kind::Leave(s.argument.as_ref().map(|e| Box::new(expression(e)))))
        }
        Statement::ThrowStatement(s) => node(span, Kind::Leave(Some(Box::new(expression(&s.argument))))),
        Statement::IfStatement(s) => {
            let parts = [
                Some(expression(&s.test)),
                Some(statement(&s.consequent)),
                s.alternate.as_ref().map(statement),
            ];
            node(span, Kind::Group(parts.into_iter().flatten().collect()))
        }
        Statement::WhileStatement(s) => {
            looping(span, Some(expression(&s.test)), None, vec![statement(&s.body)])
        }
        Statement::DoWhileStatement(s) => {
            looping(span, Some(expression(&s.test)), None, vec![statement(&s.body)])
        }
        Statement::ForStatement(s) => {
            let init = s.init.as_ref().map(|init| match init {
                ForStatementInit::VariableDeclaration(d) => variables(d),
                other => {
                    other.as_expression().map_or_else(|| Node::group(span.start, Vec::new()), expression)
                }
            });
            let mut body = vec![statement(&s.body)];
            body.extend(s.update.as_ref().map(expression));
            let test = s.test.as_ref().map(expression);
            let inner = looping(span, test, None, body);
            node(span, Kind::Group(init.into_iter().chain([inner]).collect()))
        }
        Statement::ForOfStatement(s) => {
            let mut body = hidden_left(&s.left);
            body.push(statement(&s.body));
            looping(span, None, Some((left(&s.left), expression(&s.right))), body)
        }
        Statement::ForInStatement(s) => {
            let mut body = hidden_left(&s.left);
            body.push(statement(&s.body));
            looping(span, None, Some((left(&s.left), expression(&s.right))), body)
        }
        Statement::LabeledStatement(s) => statement(&s.body),
        Statement::SwitchStatement(s) => {
            let mut parts = vec![expression(&s.discriminant)];
            for case in &s.cases {
                parts.extend(case.test.as_ref().map(expression));
                // A break here leaves the switch, no loop round it.
                parts.extend(
                    case.consequent
                        .iter()
                        .filter(|s| !matches!(s, Statement::BreakStatement(_)))
                        .map(statement),
                );
            }
            node(span, Kind::Group(parts))
        }
        Statement::TryStatement(s) => {
            let mut parts = statements(&s.block.body);
            if let Some(handler) = &s.handler {
                parts.extend(handler.param.iter().flat_map(|param| hidden(&param.pattern)));
                parts.extend(statements(&handler.body.body));
            }
            if let Some(finalizer) = &s.finalizer {
                parts.extend(statements(&finalizer.body));
            }
            node(span, Kind::Group(parts))
        }
        Statement::WithStatement(s) => {
            node(span, Kind::Group(vec![expression(&s.object), statement(&s.body)]))
        }
        Statement::ImportDeclaration(s) => {
            let mut names = Vec::new();
            for specifier in s.specifiers.iter().flatten() {
                names.push(match specifier {
                    ImportDeclarationSpecifier::ImportSpecifier(i) => {
                        (Some(i.imported.name().to_string()), i.local.name.to_string())
                    }
                    ImportDeclarationSpecifier::ImportDefaultSpecifier(i) => {
                        (Some("default".into()), i.local.name.to_string())
                    }
                    ImportDeclarationSpecifier::ImportNamespaceSpecifier(i) => {
                        (None, i.local.name.to_string())
                    }
                });
            }
            node(span, Kind::Import { module: s.source.value.to_string(), names })
        }
        Statement::ExportAllDeclaration(s) => {
            node(span, Kind::Import { module: s.source.value.to_string(), names: Vec::new() })
        }
        Statement::ExportDeclaration(s) => declaration(&s.declaration),
        Statement::ExportFromDeclaration(s) => {
            node(span, Kind::Import { module: s.source.value.to_string(), names: Vec::new() })
        }
        Statement::ExportDefaultDeclaration(s) => match &s.declaration {
            ExportDefaultDeclarationKind::FunctionDeclaration(f) => function(f),
            ExportDefaultDeclarationKind::ClassDeclaration(c) => class(c),
            other => other.as_expression().map_or_else(|| Node::group(span.start, Vec::new()), expression),
        },
        Statement::TSExportAssignment(s) => expression(&s.expression),
        other => other.as_declaration().map_or_else(|| Node::group(span.start, Vec::new()), declaration),
    }
}

fn looping(span: Span, test: Option<Node>, over: Option<(Pattern, Node)>, body: Vec<Node>) -> Node {
    node(span, Kind::Loop(Box::new(Loop { test, over, body })))
}

fn left(it: &ForStatementLeft<'_>) -> Pattern {
    match it {
        ForStatementLeft::VariableDeclaration(d) => {
            d.declarations.first().map_or(Pattern::Ignored, |d| binding(&d.id))
        }
        other => other.as_assignment_target().map_or(Pattern::Ignored, target),
    }
}

fn declaration(it: &Declaration<'_>) -> Node {
    match it {
        Declaration::VariableDeclaration(d) => variables(d),
        Declaration::FunctionDeclaration(f) => function(f),
        Declaration::ClassDeclaration(c) => class(c),
        Declaration::TSEnumDeclaration(e) => {
            let pattern = Pattern::Name(e.id.name.to_string());
            let values =
                e.body.members.iter().filter_map(|m| m.initializer.as_ref()).map(expression).collect();
            node(
                e.span,
                Kind::Assign(
                    Box::new(pattern),
                    Box::new(Node::group(
                        e.span.start,
                        vec![
                            node(e.span, Kind::Constant),
                            Node::group(e.span.start, values),
                            node(e.span, Kind::Constant),
                        ],
                    )),
                ),
            )
        }
        Declaration::TSNamespaceDeclaration(n) => namespace(n),
        Declaration::TSExternalModuleDeclaration(m) => {
            Node::group(m.span.start, m.body.as_ref().map_or_else(Vec::new, |block| statements(&block.body)))
        }
        Declaration::TSGlobalDeclaration(g) => Node::group(g.span.start, statements(&g.body.body)),
        Declaration::TSImportEqualsDeclaration(i) => alias(i),
        other => Node::group(other.span().start, Vec::new()),
    }
}

/// `namespace N { … }` runs its statements where it stands.
fn namespace(it: &TSNamespaceDeclaration<'_>) -> Node {
    let mut parts = match &it.body {
        TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => vec![namespace(inner)],
        TSNamespaceDeclarationBody::TSModuleBlock(block) => statements(&block.body),
    };
    let name = Pattern::Name(it.id.name.to_string());
    let value =
        Node::group(it.span.start, vec![node(it.span, Kind::Constant), node(it.span, Kind::Constant)]);
    parts.push(node(it.span, Kind::Assign(Box::new(name), Box::new(value))));
    node(it.span, Kind::Group(parts))
}

/// `import x = a.b` is a constant; `import x = require("m")` an import.
fn alias(it: &TSImportEqualsDeclaration<'_>) -> Node {
    fn named(it: &TSTypeName<'_>) -> Node {
        let span = it.span();
        match it {
            TSTypeName::IdentifierReference(i) => node(span, Kind::Name(i.name.to_string())),
            TSTypeName::QualifiedName(q) => {
                node(span, Kind::Member(Box::new(named(&q.left)), Key::Known(q.right.name.to_string())))
            }
            TSTypeName::ThisExpression(_) => node(span, Kind::Constant),
        }
    }
    let local = it.id.name.to_string();
    let value = match &it.module_reference {
        TSModuleReference::ExternalModuleReference(m) => {
            let names = vec![(None, local)];
            return node(it.span, Kind::Import { module: m.expression.value.to_string(), names });
        }
        TSModuleReference::IdentifierReference(i) => node(i.span, Kind::Name(i.name.to_string())),
        TSModuleReference::QualifiedName(q) => {
            node(q.span, Kind::Member(Box::new(named(&q.left)), Key::Known(q.right.name.to_string())))
        }
    };
    node(it.span, Kind::Assign(Box::new(Pattern::Name(local)), Box::new(value)))
}

/// What a pattern runs on the way: defaults and computed names.
fn hidden(it: &BindingPattern<'_>) -> Vec<Node> {
    match it {
        BindingPattern::BindingIdentifier(_) => Vec::new(),
        BindingPattern::ObjectPattern(o) => o
            .properties
            .iter()
            .flat_map(|p| named_by(&p.key).into_iter().chain(hidden(&p.value)))
            .chain(o.rest.iter().flat_map(|rest| hidden(&rest.argument)))
            .collect(),
        BindingPattern::ArrayPattern(a) => a
            .elements
            .iter()
            .flatten()
            .flat_map(hidden)
            .chain(a.rest.iter().flat_map(|rest| hidden(&rest.argument)))
            .collect(),
        BindingPattern::AssignmentPattern(a) => {
            let value = Box::new(expression(&a.right));
            let mut parts = vec![node(a.span, Kind::Assign(Box::new(binding(&a.left)), value))];
            parts.extend(hidden(&a.left));
            parts
        }
    }
}

/// The same of a pattern that assigns.
fn hidden_target(it: &AssignmentTarget<'_>) -> Vec<Node> {
    match it {
        AssignmentTarget::ArrayAssignmentTarget(a) => {
            a.elements.iter().flatten().flat_map(hidden_maybe).collect()
        }
        AssignmentTarget::ObjectAssignmentTarget(o) => o
            .properties
            .iter()
            .flat_map(|p| match p {
                AssignmentTargetProperty::AssignmentTargetPropertyIdentifier(i) => {
                    i.init.iter().map(expression).collect::<Vec<_>>()
                }
                AssignmentTargetProperty::AssignmentTargetPropertyProperty(p) => {
                    named_by(&p.name).into_iter().chain(hidden_maybe(&p.binding)).collect()
                }
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn hidden_maybe(it: &AssignmentTargetMaybeDefault<'_>) -> Vec<Node> {
    match it {
        AssignmentTargetMaybeDefault::AssignmentTargetWithDefault(d) => {
            let value = Box::new(expression(&d.init));
            let mut parts = vec![node(d.span, Kind::Assign(Box::new(target(&d.binding)), value))];
            parts.extend(hidden_target(&d.binding));
            parts
        }
        other => other.as_assignment_target().map_or_else(Vec::new, hidden_target),
    }
}

fn hidden_left(it: &ForStatementLeft<'_>) -> Vec<Node> {
    match it {
        ForStatementLeft::VariableDeclaration(d) => {
            d.declarations.iter().flat_map(|d| hidden(&d.id)).collect()
        }
        other => other.as_assignment_target().map_or_else(Vec::new, hidden_target),
    }
}

/// The expression of a computed name.
fn named_by(it: &PropertyKey<'_>) -> Option<Node> {
    match key(it) {
        Key::Computed(inner) => Some(*inner),
        _ => None,
    }
}

fn variables(it: &VariableDeclaration<'_>) -> Node {
    let parts = it.declarations.iter().flat_map(|d| {
        let value = d.init.as_ref().map_or_else(|| Node::group(d.span.start, Vec::new()), expression);
        let assign = node(d.span, Kind::Assign(Box::new(binding(&d.id)), Box::new(value)));
        hidden(&d.id).into_iter().chain([assign])
    });
    node(it.span, Kind::Group(parts.collect()))
}

fn binding(it: &BindingPattern<'_>) -> Pattern {
    match it {
        BindingPattern::BindingIdentifier(i) => Pattern::Name(i.name.to_string()),
        BindingPattern::ObjectPattern(o) => {
            let mut fields: Vec<(Key, Pattern)> =
                o.properties.iter().map(|p| (key(&p.key), binding(&p.value))).collect();
            fields.extend(o.rest.as_ref().map(|rest| (Key::Spread, binding(&rest.argument))));
            Pattern::Fields(fields)
        }
        BindingPattern::ArrayPattern(a) => {
            let mut items: Vec<Pattern> =
                a.elements.iter().map(|e| e.as_ref().map_or(Pattern::Ignored, binding)).collect();
            items.extend(a.rest.as_ref().map(|rest| binding(&rest.argument)));
            Pattern::Items(items)
        }
        BindingPattern::AssignmentPattern(a) => binding(&a.left),
    }
}

fn target(it: &AssignmentTarget<'_>) -> Pattern {
    match it {
        AssignmentTarget::AssignmentTargetIdentifier(i) => Pattern::Name(i.name.to_string()),
        AssignmentTarget::ArrayAssignmentTarget(a) => {
            Pattern::Items(a.elements.iter().map(|e| e.as_ref().map_or(Pattern::Ignored, maybe)).collect())
        }
        AssignmentTarget::ObjectAssignmentTarget(o) => Pattern::Fields(
            o.properties
                .iter()
                .map(|p| match p {
                    AssignmentTargetProperty::AssignmentTargetPropertyIdentifier(i) => {
                        (Key::Known(i.binding.name.to_string()), Pattern::Name(i.binding.name.to_string()))
                    }
                    AssignmentTargetProperty::AssignmentTargetPropertyProperty(p) => {
                        (key(&p.name), maybe(&p.binding))
                    }
                })
                .collect(),
        ),
        AssignmentTarget::TSAsExpression(e) => Pattern::Place(expression(&e.expression)),
        AssignmentTarget::TSNonNullExpression(e) => Pattern::Place(expression(&e.expression)),
        other => match other.as_member_expression() {
            Some(m) => Pattern::Place(member(m)),
            None => Pattern::Ignored,
        },
    }
}

fn maybe(it: &AssignmentTargetMaybeDefault<'_>) -> Pattern {
    match it {
        AssignmentTargetMaybeDefault::AssignmentTargetWithDefault(d) => target(&d.binding),
        other => other.as_assignment_target().map_or(Pattern::Ignored, target),
    }
}

fn member(it: &oxc_ast::ast::MemberExpression<'_>) -> Node {
    use oxc_ast::ast::MemberExpression as M;
    match it {
        M::StaticMemberExpression(m) => node(
            m.span,
            Kind::Member(Box::new(expression(&m.object)), Key::Known(m.property.name.to_string())),
        ),
        M::ComputedMemberExpression(m) => {
            node(m.span, Kind::Member(Box::new(expression(&m.object)), computed(&m.expression)))
        }
        M::PrivateFieldExpression(m) => Node::group(
            m.span.start,
            vec![expression(&m.object), node(m.span, Kind::Constant), node(m.span, Kind::Constant)],
        ),
    }
}

fn computed(it: &Expression<'_>) -> Key {
    match it {
        Expression::StringLiteral(s) => Key::Known(s.value.to_string()),
        other => Key::Computed(Box::new(expression(other))),
    }
}

fn key(it: &PropertyKey<'_>) -> Key {
    match it {
        PropertyKey::StaticIdentifier(i) => Key::Known(i.name.to_string()),
        PropertyKey::PrivateIdentifier(_) => Key::Spread,
        other => other.as_expression().map_or(Key::Spread, computed),
    }
}

fn function(it: &oxc_ast::ast::Function<'_>) -> Node {
    let name = it.id.as_ref().map(|id| id.name.to_string());
    let body = it.body.as_ref().map_or_else(Vec::new, |body| statements(&body.statements));
    make(it.span, name, &it.params, body)
}

fn make(span: Span, name: Option<String>, params: &FormalParameters<'_>, body: Vec<Node>) -> Node {
    let mut patterns: Vec<Pattern> = Vec::new();
    for param in &params.items {
        patterns.push(binding(&param.pattern));
        patterns.extend(param.initializer.as_ref().map(|e| Pattern::Place(expression(e))));
        patterns.extend(param.decorators.iter().map(|d| Pattern::Place(expression(&d.expression))));
    }
    let mut inner: Vec<Node> = params.items.iter().flat_map(|param| hidden(&param.pattern)).collect();
    inner.extend(params.rest.iter().flat_map(|rest| hidden(&rest.rest.argument)));
    inner.extend(body);
    patterns.extend(params.rest.as_ref().map(|rest| binding(&rest.rest.argument)));
    node(span, Kind::Function(Box::new(Function { name, params: patterns, body: inner })))
}

fn class(it: &Class<'_>) -> Node {
    let mut parts: Vec<Node> = it.decorators.iter().map(|d| expression(&d.expression)).collect();
    parts.extend(it.heritage.as_ref().map(|h| expression(&h.expression)));
    for element in &it.body.body {
        match element {
            ClassElement::StaticBlock(b) => parts.extend(statements(&b.body)),
            ClassElement::MethodDefinition(m) => {
                parts.extend(m.decorators.iter().map(|d| expression(&d.expression)));
                parts.extend(named_by(&m.key));
                parts.push(function(&m.value));
            }
            ClassElement::PropertyDefinition(p) => {
                parts.extend(p.decorators.iter().map(|d| expression(&d.expression)));
                parts.extend(named_by(&p.key));
                parts.extend(p.value.as_ref().map(expression));
            }
            ClassElement::AccessorProperty(p) => {
                parts.extend(p.decorators.iter().map(|d| expression(&d.expression)));
                parts.extend(named_by(&p.key));
                parts.extend(p.value.as_ref().map(expression));
            }
            ClassElement::TSIndexSignature(_) => {}
        }
    }
    let name = it.id.as_ref().map(|id| id.name.to_string());
    node(it.span, Kind::Function(Box::new(Function { name, params: Vec::new(), body: parts })))
}

fn template(it: &TemplateLiteral<'_>) -> Node {
    let mut parts = Vec::new();
    for (i, quasi) in it.quasis.iter().enumerate() {
        let text = quasi.value.cooked.as_ref().unwrap_or(&quasi.value.raw).to_string();
        parts.push(node(quasi.span, Kind::Text(text)));
        parts.extend(it.expressions.get(i).map(expression));
    }
    match parts.as_slice() {
        [only] => only.clone(),
        _ => node(it.span, Kind::Join(parts)),
    }
}

fn arguments(list: &[Argument<'_>]) -> Vec<Node> {
    list.iter()
        .map(|arg| match arg {
            Argument::SpreadElement(s) => expression(&s.argument),
            other => {
                other.as_expression().map_or_else(|| Node::group(other.span().start, Vec::new()), expression)
            }
        })
        .collect()
}

fn called(span: Span, callee: &Expression<'_>, args: &[Argument<'_>], new: bool) -> Node {
    let args = arguments(args);
    // `require("x")` of a module is its import.
    let call = Call { callee: expression(callee), args, named: Vec::new(), new };
    node(span, Kind::Call(Box::new(call)))
}

fn expression(it: &Expression<'_>) -> Node {
    let span = it.span();
    match it {
        Expression::BooleanLiteral(b) => node(span, if b.value { Kind::Constant } else { Kind::Number(0.0) }),
        Expression::NumericLiteral(n) => node(span, Kind::Number(n.value)),
        Expression::BigIntLiteral(_) => node(span, Kind::Number(1.0)),
        Expression::RegExpLiteral(r) => node(span, Kind::Regex(r.regex.pattern.text.to_string())),
        Expression::StringLiteral(s) => node(span, Kind::Text(s.value.to_string())),
        Expression::TemplateLiteral(t) => template(t),
        Expression::TaggedTemplateExpression(t) => {
            let call = Call {
                callee: expression(&t.tag),
                args: vec![template(&t.quasi)],
                named: Vec::new(),
                new: false,
            };
            node(span, Kind::Call(Box::new(call)))
        }
        Expression::Identifier(i) => node(span, Kind::Name(i.name.to_string())),
        Expression::ArrayExpression(a) => {
            // `[...text]` are its letters.
            if let [ArrayExpressionElement::SpreadElement(s)] = a.elements.as_slice() {
                let from = node(
                    span,
                    Kind::Member(Box::new(node(span, Kind::Name("Array".into()))), Key::Known("from".into())),
                );
                return node(
                    span,
                    Kind::Call(Box::new(Call {
                        callee: from,
                        args: vec![expression(&s.argument)],
                        named: Vec::new(),
                        new: false,
                    })),
                );
            }
            let items = a.elements.iter().filter_map(|e| match e {
                ArrayExpressionElement::SpreadElement(s) => Some(expression(&s.argument)),
                ArrayExpressionElement::Elision(_) => None,
                other => other.as_expression().map(expression),
            });
            node(span, Kind::List(items.collect()))
        }
        Expression::ObjectExpression(o) => {
            let fields = o.properties.iter().map(|p| match p {
                ObjectPropertyKind::ObjectProperty(p) => (key(&p.key), expression(&p.value)),
                ObjectPropertyKind::SpreadProperty(s) => (Key::Spread, expression(&s.argument)),
            });
            node(span, Kind::Dict(fields.collect()))
        }
        Expression::ArrowFunctionExpression(f) => {
            let body = match &f.body {
                ArrowFunctionBody::FunctionBody(body) => statements(&body.statements),
                other => other.as_expression().map(expression).into_iter().collect(),
            };
            make(span, None, &f.params, body)
        }
        Expression::FunctionExpression(f) => function(f),
        Expression::ClassExpression(c) => class(c),
        Expression::AssignmentExpression(a) => {
            let right = expression(&a.right);
            let value = match a.operator {
                AssignmentOperator::Assign
                | AssignmentOperator::LogicalOr
                | AssignmentOperator::LogicalNullish
                | AssignmentOperator::LogicalAnd => right,
                AssignmentOperator::Addition => {
                    Node::group(span.start, vec![right.clone(), right, node(span, Kind::Constant)])
                }
                _ => Node::group(
                    span.start,
                    vec![right, node(span, Kind::Constant), node(span, Kind::Constant)],
                ),
            };
            let assign = node(span, Kind::Assign(Box::new(target(&a.left)), Box::new(value)));
            let mut parts = hidden_target(&a.left);
            if parts.is_empty() {
                return assign;
            }
            parts.push(assign);
            node(span, Kind::Group(parts))
        }
        Expression::AwaitExpression(a) => node(span, Kind::Await(Box::new(expression(&a.argument)))),
        Expression::BinaryExpression(b) => {
            let (left, right) = (expression(&b.left), expression(&b.right));
            let operator = match b.operator {
                BinaryOperator::Addition => return Node::join(span.start, left, right),
                BinaryOperator::Exponential => Operator::Power,
                BinaryOperator::Multiplication => Operator::Times,
                BinaryOperator::Instanceof => Operator::InstanceOf,
                BinaryOperator::LessThan
                | BinaryOperator::LessEqualThan
                | BinaryOperator::GreaterThan
                | BinaryOperator::GreaterEqualThan
                | BinaryOperator::Equality
                | BinaryOperator::Inequality
                | BinaryOperator::StrictEquality
                | BinaryOperator::StrictInequality => Operator::Compare,
                _ => Operator::Other,
            };
            node(span, Kind::Binary(operator, Box::new(left), Box::new(right)))
        }
        Expression::CallExpression(c) => called(span, &c.callee, &c.arguments, false),
        Expression::NewExpression(n) => called(span, &n.callee, &n.arguments, true),
        Expression::ChainExpression(c) => match &c.expression {
            ChainElement::CallExpression(c) => called(span, &c.callee, &c.arguments, false),
            ChainElement::TSNonNullExpression(e) => expression(&e.expression),
            other => other.as_member_expression().map_or_else(|| Node::group(span.start, Vec::new()), member),
        },
        Expression::ConditionalExpression(c) => {
            let choice = node(span, Kind::Choice(vec![expression(&c.consequent), expression(&c.alternate)]));
            node(span, Kind::Group(vec![expression(&c.test), choice]))
        }
        Expression::LogicalExpression(l) => {
            node(span, Kind::Choice(vec![expression(&l.left), expression(&l.right)]))
        }
        Expression::ImportExpression(i) => node(span, Kind::Load(Box::new(expression(&i.source)))),
        Expression::ParenthesizedExpression(p) => expression(&p.expression),
        Expression::SequenceExpression(s) => {
            let mut parts: Vec<Node> = s.expressions.iter().map(expression).collect();
            match parts.pop() {
                Some(last) => node(span, Kind::Group(vec![Node::group(span.start, parts), last])),
                None => Node::group(span.start, Vec::new()),
            }
        }
        Expression::UnaryExpression(u) => {
            let inner = expression(&u.argument);
            match (u.operator, &inner.kind) {
                (UnaryOperator::UnaryNegation, Kind::Number(n)) => node(span, Kind::Number(-n)),
                (UnaryOperator::Typeof, Kind::Name(_)) => node(span, Kind::Constant),
                (UnaryOperator::Delete, Kind::Member(..)) => node(
                    span,
                    Kind::Assign(Box::new(Pattern::Place(inner)), Box::new(node(span, Kind::Constant))),
                ),
                _ => Node::group(
                    span.start,
                    vec![inner, node(span, Kind::Constant), node(span, Kind::Constant)],
                ),
            }
        }
        Expression::UpdateExpression(u) => match u.argument.as_member_expression() {
            Some(m) => Node::group(
                span.start,
                vec![member(m), node(span, Kind::Constant), node(span, Kind::Constant)],
            ),
            None => match &u.argument {
                SimpleAssignmentTarget::AssignmentTargetIdentifier(_) => node(span, Kind::Constant),
                _ => Node::group(span.start, Vec::new()),
            },
        },
        Expression::YieldExpression(y) => {
            node(span, Kind::Leave(y.argument.as_ref().map(|e| Box::new(expression(e)))))
        }
        Expression::PrivateInExpression(p) => Node::group(
            span.start,
            vec![expression(&p.right), node(span, Kind::Constant), node(span, Kind::Constant)],
        ),
        Expression::TSAsExpression(e) => expression(&e.expression),
        Expression::TSSatisfiesExpression(e) => expression(&e.expression),
        Expression::TSTypeAssertion(e) => expression(&e.expression),
        Expression::TSNonNullExpression(e) => expression(&e.expression),
        Expression::TSInstantiationExpression(e) => expression(&e.expression),
        other => match other.as_member_expression() {
            Some(m) => member(m),
            None => Node::group(span.start, Vec::new()),
        },
    }
}
