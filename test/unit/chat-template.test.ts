// Chat templates: the text equals that of transformers, byte for byte, or the template is rejected.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { ChatTemplate } from '../../src/text/chat-template.js';
import { parseTemplate } from '../../src/text/jinja.js';
import { slowSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

type Chat = { messages: object[]; [name: string]: unknown };

interface Golden {
  messages: object[];
  texts: string[];
  patterns: string[];
  expressions: [expression: string, text: string | null][];
  blocks: [template: string, text: string | null][];
  chats: Chat[];
  templates: { name: string; template: string; expected: (string | null)[]; bulk: string }[];
}

const golden: Golden = JSON.parse(fs.readFileSync(join(import.meta.dirname, '../golden/chat-templates.json'), 'utf8'));

/** What apply_chat_template passes to every template. */
const shared = { bos_token: '<s>', eos_token: '</s>', tools: null, documents: null, add_generation_prompt: true };

function rendered(template: string, variables: object): string | Error {
  try {
    return parseTemplate(template)({ ...shared, ...variables });
  } catch (error) {
    return error as Error;
  }
}

/** Returns whether a text was rendered. */
function check(about: string, expected: string | null, got: string | Error, show = (text: string) => text): boolean {
  if (got instanceof Error) return false;
  assert.notEqual(expected, null, `${about}: Python refuses it, got ${JSON.stringify(got)}`);
  assert.equal(show(got), expected, about);
  return true;
}

test('expressions have the values of Python, or are rejected', () => {
  let refused = 0;
  for (const [expression, text] of golden.expressions) {
    const got = rendered(`{{ ${expression} }}`, { messages: golden.messages });
    if (!check(expression, text, got) && text !== null) refused++;
  }
  // Numbers with exponents, chained comparisons, formatting and a few methods.
  assert.ok(refused <= 18, `${refused} refused`);
});

test('statements do the same as in Jinja, or are rejected', () => {
  let refused = 0;
  for (const [template, text] of golden.blocks) {
    if (!check(template, text, rendered(template, { messages: golden.messages })) && text !== null) refused++;
  }
  assert.ok(refused <= 4, `${refused} refused`);
});

test('chats with tools, documents, parts and reasoning are rendered as by transformers', () => {
  for (const { name, template, expected } of golden.templates) {
    for (const [i, chat] of golden.chats.entries()) {
      const got = rendered(template, chat);
      assert.equal(check(`${name}, chat ${i}`, expected[i], got), expected[i] !== null, `${name}, chat ${i}: ${got}`);
    }
  }
});

const roles: Readonly<Record<string, string>> = { u: 'user', s: 'system', a: 'assistant' };

test('2,160 chats of hostile text are rendered as by transformers', () => {
  const { texts, patterns } = golden;
  const digest = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 12);
  let compared = 0;
  for (const { name, template, bulk } of golden.templates) {
    const render = parseTemplate(template);
    for (const [p, pattern] of patterns.entries()) {
      for (let start = 0; start < texts.length; start++) {
        const at = p * texts.length + start;
        const messages = Array.from(pattern, (role, i) => ({
          role: roles[role],
          content: texts[(start + 5 * i) % texts.length],
        }));
        const expected = bulk.slice(12 * at, 12 * at + 12);
        const variables = { ...shared, messages, add_generation_prompt: at % 2 === 0 };
        if (expected.startsWith('-')) assert.throws(() => render(variables), `${name} ${pattern} ${start}`);
        else assert.equal(digest(render(variables)), expected, `${name} ${pattern} ${start}`);
        compared++;
      }
    }
  }
  assert.equal(compared, 2160);
});

const hi = [{ role: 'user', content: 'hi' }];

function single(source: string): ChatTemplate {
  return new ChatTemplate(new Map([['default', source]]), { bos_token: '<s>' });
}

test('chats are rendered in a separate process, several at once', async () => {
  const template = single(
    '{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ mood }}{{ add_generation_prompt }}',
  );
  const texts = await template.render([hi, [...hi, { role: 'assistant', content: 'ho' }]], {
    variables: { mood: '!' },
  });
  assert.deepEqual(texts, ['<s>[user]hi!True', '<s>[user]hi[assistant]ho!True']);
  assert.deepEqual(await template.render([hi], { addGenerationPrompt: false }), ['<s>[user]hiFalse']);
  assert.deepEqual(await template.render([]), []);
});

test('a template that does not end is stopped', async () => {
  const endless =
    '{% macro f(n) %}{% for i in range(1000) %}{{ f(n + 1) if n < 900 }}{% endfor %}{% endmacro %}{{ f(0) }}';
  await assert.rejects(
    single(endless).render([hi], { timeLimit: 500 }),
    /chat template(, chat 0)?: expected text, got (no end within 500 ms|Maximum call stack size exceeded)/,
  );
  const recursive = '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}';
  await assert.rejects(single(recursive).render([hi]), /chat template, chat 0: expected text, got Maximum call stack/);
  const wide = '{{ range(100001) | list | length }}';
  await assert.rejects(single(wide).render([hi]), /range: expected at most 100000 numbers/);
});

test('a template that takes all memory is stopped', { skip: slowSet('fills the memory of a worker') }, async () => {
  const large = '{% set ns = namespace(a=[1,2]) %}{% for i in range(100) %}{% set ns.a = ns.a + ns.a %}{% endfor %}';
  await assert.rejects(single(large).render([hi], { timeLimit: 60_000 }), RangeError);
  const long =
    "{% set ns = namespace(a='xx') %}{% for i in range(100) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a }}";
  await assert.rejects(single(long).render([hi], { timeLimit: 60_000 }), RangeError);
  const nested =
    '{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a | tojson }}';
  await assert.rejects(single(nested).render([hi], { timeLimit: 500 }), RangeError);
});

test('errors of a template, and invalid messages, are named', async () => {
  await assert.rejects(single("{{ raise_exception('roles must alternate') }}").render([hi, hi]), {
    name: 'RangeError',
    message: 'chat template, chat 0: expected text, got roles must alternate',
  });
  await assert.rejects(single('{% if %}').render([hi]), /^RangeError: chat template: expected text, got /);
  await assert.rejects(single('').render([[]]), /chat 0: expected at least one message, got none/);
  await assert.rejects(single('').render(['hi' as never]), /chat 0: expected an array of messages, got "hi"/);
  await assert.rejects(
    single('').render([[{ content: 'x' } as never]]),
    /chat 0, message 0, role: expected a string, got nothing/,
  );
  await assert.rejects(
    single('').render([hi], { variables: { n: 1n } }),
    /^TypeError: chats: expected what JSON can hold/,
  );
  await assert.rejects(single('').render([hi], { template: 'rag' }), /template: expected one of "default", got "rag"/);
  await assert.rejects(single('').render([hi], { timeLimit: 0 }), /timeLimit: expected an integer at least 1/);
  assert.throws(() => single('x'.repeat(2 ** 20 + 1)), /expected at most 1048576 characters, got 1048577/);
});

test('templates are found: a file takes precedence over the configuration; a string or a list', async (t) => {
  const folder = temporaryFolder(t);
  const none = new Map();
  assert.equal(ChatTemplate.read(folder, {}, none), null);
  const text = ChatTemplate.read(folder, { chat_template: 'a' }, none)!;
  assert.deepEqual([...text.templates], [['default', 'a']]);
  const list = [
    { name: 'default', template: 'd' },
    { name: 'tool_use', template: 't' },
  ];
  const named = ChatTemplate.read(folder, { chat_template: list }, none)!;
  assert.deepEqual(await named.render([hi]), ['d']);
  assert.deepEqual(await named.render([hi], { tools: [{}] }), ['t']);
  assert.deepEqual(await named.render([hi], { tools: [{}], template: 'default' }), ['d']);
  assert.throws(
    () => ChatTemplate.read(folder, { chat_template: [{ name: 'x' }] }, none),
    /template 0: expected a name and/,
  );
  fs.writeFileSync(join(folder, 'chat_template.jinja'), 'file');
  fs.mkdirSync(join(folder, 'additional_chat_templates'));
  fs.writeFileSync(join(folder, 'additional_chat_templates', 'rag.jinja'), 'rag');
  const files = ChatTemplate.read(folder, { chat_template: 'a' }, none)!;
  assert.deepEqual(
    [...files.templates],
    [
      ['default', 'file'],
      ['rag', 'rag'],
    ],
  );
});
