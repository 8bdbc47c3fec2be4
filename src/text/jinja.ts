// Renders chat templates as Jinja 3.1 does in transformers' sandbox (trim_blocks, lstrip_blocks, loop controls, its own
// tojson). The template is parsed by @huggingface/jinja; it is evaluated here with Python's values, because the model was trained
// on Python's output: 1.0 is not 1, None prints as None, a loop has its own scope. Anything unsupported, or an error in Python,
// is an error; nothing is guessed.

import { parse, tokenize } from '@huggingface/jinja';
import { applyFilter } from './jinja-filters.js';
import { methodOf } from './jinja-methods.js';
import {
  type Arguments,
  Attributes,
  add,
  binary,
  fromJavaScript,
  isTrue,
  iterate,
  PyFunction,
  PyTuple,
  print,
  sliced,
  test,
  type Value,
} from './jinja-values.js';
import { PyFloat, strftime } from './python-text.js';

/** A node of the parser's tree. */
interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** Names and values; a name that is not found is looked up in the enclosing scope. */
class Scope {
  private readonly own = new Map<string, Value>();

  constructor(private readonly outer?: Scope) {}

  set(name: string, value: Value): void {
    this.own.set(name, value);
  }

  get(name: string): Value {
    if (this.own.has(name)) return this.own.get(name);
    if (this.outer) return this.outer.get(name);
    if (unknownNames.has(name)) throw new Error(`the name ${name} is not supported`);
    return undefined;
  }
}

class Break extends Error {}
class Continue extends Error {}

/** The limit of Jinja's sandbox. */
const maxRange = 100_000n;

/**
 * A parsed template.
 *
 * @param source its text
 * @throws Error if it cannot be parsed
 */
export function parseTemplate(source: string): (variables: Readonly<Record<string, unknown>>) => string {
  // Jinja reads every kind of line ending as \n.
  const own = source.replace(/\r\n?/g, '\n');
  const tokens = tokenize(own, { lstrip_blocks: true, trim_blocks: true });
  refuseLost(own, tokens);
  const program = parse(tokens) as unknown as Node;
  return (variables) => {
    const globals = createGlobals();
    for (const [name, value] of Object.entries(variables)) globals.set(name, fromJavaScript(value));
    return new Evaluator().block(program.body as Node[], new Scope(globals));
  };
}

/** What the parser's tree no longer shows: chained comparisons, and the scope of a `generation` block. */
function refuseLost(source: string, tokens: readonly { type: string; value: string }[]): void {
  const resets = /^(Open|Close)(Statement|Expression)$|^(Comma|Equals)$/;
  // For each open bracket, whether there is a comparison at its level.
  let levels = [false];
  let isLoop = false;
  for (const { type, value } of tokens) {
    const isName = type === 'Identifier';
    if (resets.test(type) || (isName && ['and', 'or', 'if', 'else'].includes(value))) levels[levels.length - 1] = false;
    if (/^Open(Paren|SquareBracket|CurlyBracket)$/.test(type)) levels.push(false);
    if (/^Close(Paren|SquareBracket|CurlyBracket)$/.test(type)) levels.pop();
    if (levels.length === 0) levels = [false];
    if (isName && value === 'for') isLoop = true;
    const isIn = isName && value === 'in';
    if (type === 'ComparisonBinaryOperator' || (isIn && !isLoop)) {
      if (levels.at(-1)) throw new Error('comparisons in a chain are not supported');
      levels[levels.length - 1] = true;
    }
    if (isIn) isLoop = false;
  }
  for (const [block] of source.matchAll(/\{%[-+]?\s*generation\b.*?\bendgeneration\b/gs)) {
    if (/\{%[-+]?\s*set\s+\w+\s*[,=%-]/.test(block)) throw new Error('set within generation is not supported');
  }
}

/** Names that Jinja defines and that are not supported here; they must not count as undefined. */
const unknownNames = new Set(['self', 'context', 'caller', 'varargs', 'kwargs', 'cycler', 'joiner', 'lipsum']);

function createGlobals(): Scope {
  const scope = new Scope();
  for (const [name, value] of [
    ['true', true],
    ['True', true],
    ['false', false],
    ['False', false],
    ['none', null],
    ['None', null],
  ] as const) {
    scope.set(name, value);
  }
  const define = (name: string, call: (args: Arguments) => Value) => scope.set(name, new PyFunction(call));
  define('range', ({ positional }) => range(positional));
  define('namespace', ({ positional, named }) => {
    const values = new Attributes();
    const [initial] = positional;
    if (initial instanceof Map) for (const [name, value] of initial) values.set(name, value);
    else if (positional.length > 0) throw new Error('namespace: expected names and values');
    for (const [name, value] of named) values.set(name, value);
    return values;
  });
  define('dict', ({ positional, named }) => {
    if (positional.length > 0) throw new Error('dict: expected names and values');
    return new Map(named);
  });
  define('raise_exception', ({ positional }) => {
    throw new Error(print(positional[0]));
  });
  define('strftime_now', ({ positional }) => strftime(new Date(), print(positional[0])));
  return scope;
}

function range(positional: readonly Value[]): Value[] {
  if (!positional.every((value) => typeof value === 'bigint') || positional.length < 1 || positional.length > 3) {
    throw new Error('range: expected one to three integers');
  }
  const given = positional as bigint[];
  const [start, stop, step = 1n] = given.length === 1 ? [0n, given[0]] : given;
  if (step === 0n) throw new Error('range: expected a step that is not 0');
  const distance = step > 0n ? stop - start : start - stop;
  const size = step > 0n ? step : -step;
  const count = distance > 0n ? (distance + size - 1n) / size : 0n;
  if (count > maxRange) throw new Error(`range: expected at most ${maxRange} numbers, got ${count}`);
  return Array.from({ length: Number(count) }, (_, i) => start + BigInt(i) * step);
}

class Evaluator {
  /** The text of a list of statements. */
  block(nodes: readonly Node[], scope: Scope): string {
    const parts: string[] = [];
    for (const node of nodes) parts.push(this.statement(node, scope));
    return parts.join('');
  }

  private statement(node: Node, scope: Scope): string {
    switch (node.type) {
      case 'Comment':
        return '';
      case 'Set':
        return this.assign(node, scope);
      case 'If': {
        const isMet = isTrue(this.value(node.test as Node, scope));
        return this.block((isMet ? node.body : node.alternate) as Node[], scope);
      }
      case 'For':
        return this.loop(node, scope);
      case 'Macro': {
        const name = (node.name as Node).value as string;
        scope.set(name, this.macro(name, node.args as Node[], node.body as Node[], scope));
        return '';
      }
      case 'CallStatement':
        return this.callBlock(node, scope);
      case 'FilterStatement': {
        const text = this.block(node.body as Node[], new Scope(scope));
        return print(this.filter(text, node.filter as Node, scope));
      }
      case 'Break':
        throw new Break();
      case 'Continue':
        throw new Continue();
      default:
        return print(this.value(withoutSafe(node), scope));
    }
  }

  private assign({ assignee, value, body }: Node, scope: Scope): string {
    const given = value ? this.value(value as Node, scope) : this.block(body as Node[], new Scope(scope));
    this.bind(assignee as Node, given, scope);
    return '';
  }

  private bind(target: Node, value: Value, scope: Scope): void {
    if (target.type === 'Identifier') {
      scope.set(target.value as string, value);
    } else if (target.type === 'TupleLiteral') {
      const targets = target.value as Node[];
      const parts = iterate(value);
      if (parts.length !== targets.length) {
        throw new Error(`expected ${targets.length} values to unpack, got ${parts.length}`);
      }
      for (const [i, part] of parts.entries()) this.bind(targets[i], part, scope);
    } else if (target.type === 'MemberExpression' && !target.computed) {
      const object = this.value(target.object as Node, scope);
      if (!(object instanceof Attributes) || !object.isMutable) throw new Error('expected a namespace to assign to');
      object.set((target.property as Node).value as string, value);
    } else {
      throw new Error(`cannot assign to a ${target.type}`);
    }
  }

  private loop({ iterable, loopvar, body, defaultBlock }: Node, scope: Scope): string {
    const source = iterable as Node;
    const filtered = source.type === 'SelectExpression';
    const all = iterate(this.value((filtered ? source.lhs : source) as Node, scope));
    const items = filtered ? all.filter((item) => this.passes(source.test as Node, loopvar as Node, item, scope)) : all;
    if (items.length === 0) return this.block(defaultBlock as Node[], new Scope(scope));
    const parts: string[] = [];
    let changed: Value[] | undefined;
    for (const [i, item] of items.entries()) {
      // Names set in one iteration are not visible in the next.
      const own = new Scope(scope);
      const loop = loopAttributes(items, i);
      loop.set(
        'changed',
        new PyFunction(({ positional }) => {
          const isSame = changed !== undefined && binary('==', changed, [...positional]) === true;
          changed = [...positional];
          return !isSame;
        }),
      );
      own.set('loop', loop);
      this.bind(loopvar as Node, item, own);
      try {
        for (const node of body as Node[]) parts.push(this.statement(node, own));
      } catch (error) {
        if (error instanceof Break) break;
        if (!(error instanceof Continue)) throw error;
      }
    }
    return parts.join('');
  }

  private passes(condition: Node, loopvar: Node, item: Value, scope: Scope): boolean {
    const own = new Scope(scope);
    this.bind(loopvar, item, own);
    return isTrue(this.value(condition, own));
  }

  /** A macro sees the names around its definition, not those around its call. */
  private macro(name: string, parameters: readonly Node[], body: readonly Node[], scope: Scope): PyFunction {
    return new PyFunction(({ positional, named }) => {
      const own = new Scope(scope);
      const given = new Map(named);
      if (positional.length > parameters.length) {
        throw new Error(`${name}: expected at most ${parameters.length} arguments, got ${positional.length}`);
      }
      // A default may use the parameters before it.
      const names = parameters.map((node) => ((node.type === 'Identifier' ? node : node.key) as Node).value as string);
      for (const [i, parameter] of names.entries()) {
        const fallback = parameters[i].type === 'Identifier' ? undefined : (parameters[i].value as Node);
        const isGiven = i < positional.length || given.has(parameter);
        const value = i < positional.length ? positional[i] : given.get(parameter);
        own.set(parameter, isGiven || !fallback ? value : this.value(fallback, own));
        given.delete(parameter);
      }
      if (given.has('caller')) own.set('caller', given.get('caller'));
      given.delete('caller');
      const [unknown] = given.keys();
      if (unknown !== undefined) throw new Error(`${name}: unknown argument ${unknown}`);
      return this.block(body, own);
    });
  }

  private callBlock({ call, callerArgs, body }: Node, scope: Scope): string {
    const { callee, args } = call as unknown as { callee: Node; args: Node[] };
    const caller = this.macro('caller', (callerArgs as Node[] | null) ?? [], body as Node[], scope);
    const given = this.args(args, scope);
    const named = new Map([...given.named, ['caller', caller] as const]);
    return print(this.call(this.value(callee, scope), { positional: given.positional, named }));
  }

  private value(node: Node, scope: Scope): Value {
    switch (node.type) {
      case 'IntegerLiteral':
        if (!Number.isSafeInteger(node.value)) throw new Error('a number of this size is not supported');
        return BigInt(node.value as number);
      case 'FloatLiteral':
        return new PyFloat(node.value as number);
      case 'StringLiteral':
        return node.value as string;
      case 'TupleLiteral':
        return PyTuple.of(...(node.value as Node[]).map((item) => this.value(item, scope)));
      case 'ArrayLiteral':
        return (node.value as Node[]).map((item) => this.value(item, scope));
      case 'ObjectLiteral':
        return this.object(node.value as Map<Node, Node>, scope);
      case 'Identifier':
        return scope.get(node.value as string);
      case 'MemberExpression':
        return this.member(node, scope);
      case 'CallExpression':
        return this.call(this.value(node.callee as Node, scope), this.args(node.args as Node[], scope));
      case 'FilterExpression':
        return this.filter(this.value(node.operand as Node, scope), node.filter as Node, scope);
      case 'TestExpression': {
        const outcome = test((node.test as Node).value as string, this.value(node.operand as Node, scope));
        return node.negate ? !outcome : outcome;
      }
      case 'UnaryExpression':
        return this.unary(node, scope);
      case 'BinaryExpression':
        return this.binary(node, scope);
      case 'SelectExpression':
        return isTrue(this.value(node.test as Node, scope)) ? this.value(node.lhs as Node, scope) : undefined;
      case 'Ternary': {
        const isMet = isTrue(this.value(node.condition as Node, scope));
        return this.value((isMet ? node.trueExpr : node.falseExpr) as Node, scope);
      }
      default:
        throw new Error(`a ${node.type} is not supported`);
    }
  }

  private object(entries: Map<Node, Node>, scope: Scope): Value {
    const object = new Map<string, Value>();
    for (const [key, value] of entries) {
      const name = this.value(key, scope);
      if (typeof name !== 'string') throw new Error('expected a string as a key');
      object.set(name, this.value(value, scope));
    }
    return object;
  }

  private unary({ operator, argument }: Node, scope: Scope): Value {
    const value = this.value(argument as Node, scope);
    const sign = (operator as Node).value;
    if (sign === 'not') return !isTrue(value);
    if (sign === '-') return binary('-', 0n, value);
    return add(0n, value);
  }

  private binary({ operator, left, right }: Node, scope: Scope): Value {
    const name = (operator as Node).value as string;
    const a = this.value(left as Node, scope);
    if (name === 'and') return isTrue(a) ? this.value(right as Node, scope) : a;
    if (name === 'or') return isTrue(a) ? a : this.value(right as Node, scope);
    return binary(name, a, this.value(right as Node, scope));
  }

  private args(nodes: readonly Node[], scope: Scope): Arguments {
    const positional: Value[] = [];
    const named = new Map<string, Value>();
    for (const node of nodes) {
      if (node.type === 'KeywordArgumentExpression') {
        named.set((node.key as Node).value as string, this.value(node.value as Node, scope));
      } else if (node.type === 'SpreadExpression') {
        positional.push(...iterate(this.value(node.argument as Node, scope)));
      } else if (node.type === 'KeywordSpreadExpression') {
        const spread = this.value(node.argument as Node, scope);
        if (!(spread instanceof Map)) throw new Error('expected a mapping after **');
        for (const [name, value] of spread) named.set(name, value);
      } else {
        positional.push(this.value(node, scope));
      }
    }
    return { positional, named };
  }

  private call(callee: Value, args: Arguments): Value {
    if (!(callee instanceof PyFunction)) throw new Error('expected a function to call');
    return callee.call(args);
  }

  private filter(value: Value, node: Node, scope: Scope): Value {
    const isCall = node.type === 'CallExpression';
    const name = ((isCall ? node.callee : node) as Node).value as string;
    return applyFilter(name, value, this.args(isCall ? (node.args as Node[]) : [], scope));
  }

  private member({ object, property, computed }: Node, scope: Scope): Value {
    const owner = this.value(object as Node, scope);
    const node = property as Node;
    if (owner === undefined) throw new Error(`${describeNode(object as Node)} is undefined`);
    if (node.type === 'SliceExpression') {
      const bound = (part: unknown) => (part ? this.value(part as Node, scope) : null);
      return sliced(owner, bound(node.start), bound(node.stop), bound(node.step));
    }
    if (!computed && node.type === 'Identifier') return attribute(owner, node.value as string);
    return item(owner, this.value(node, scope));
  }
}

/** `safe` does not change what is printed; elsewhere it would make Python escape what it is joined with. */
function withoutSafe(node: Node): Node {
  const filter = node.filter as Node | undefined;
  const isSafe = node.type === 'FilterExpression' && filter?.type === 'Identifier' && filter.value === 'safe';
  return isSafe ? (node.operand as Node) : node;
}

function describeNode(node: Node): string {
  if (node.type === 'Identifier') return node.value as string;
  if (node.type !== 'MemberExpression') return 'a value';
  const { value } = node.property as Node;
  return `${describeNode(node.object as Node)}.${String(value ?? '…')}`;
}

/** owner.name: Python's own attributes take precedence over the keys of a mapping. */
function attribute(owner: Value, name: string): Value {
  if (owner instanceof Attributes) return owner.get(name);
  const method = methodOf(owner, name);
  if (method) return method;
  return owner instanceof Map ? owner.get(name) : undefined;
}

/** owner[key]: keys and indices take precedence over attributes. */
function item(owner: Value, key: Value): Value {
  if (typeof key === 'string') {
    return owner instanceof Map && owner.has(key) ? owner.get(key) : attribute(owner, key);
  }
  if (typeof key !== 'bigint') throw new Error('expected a string or an integer in brackets');
  const list = typeof owner === 'string' ? [...owner] : owner;
  return Array.isArray(list) ? list.at(Number(key)) : undefined;
}

function loopAttributes(items: readonly Value[], i: number): Attributes {
  const { length } = items;
  const loop = new Attributes(false);
  const number = (value: number) => BigInt(value);
  for (const [name, value] of [
    ['index', number(i + 1)],
    ['index0', number(i)],
    ['revindex', number(length - i)],
    ['revindex0', number(length - i - 1)],
    ['first', i === 0],
    ['last', i === length - 1],
    ['length', number(length)],
    ['previtem', items[i - 1]],
    ['nextitem', items[i + 1]],
    ['cycle', new PyFunction(({ positional }) => positional[i % positional.length])],
  ] as const) {
    loop.set(name, value);
  }
  return loop;
}
