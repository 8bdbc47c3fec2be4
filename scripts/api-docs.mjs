// The API reference in docs/api, from the declarations that tsc writes: every export with its documentation.
//
//   npm run docs:api                writes the pages
//   npm run docs:api -- --check     exits with 1 if a page is not up to date

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const entries = [
  {
    name: 'groupgrad',
    file: 'index.d.ts',
    page: 'groupgrad.md',
    about:
      'The losses over typed arrays and on the GPU, the trainer, tasks, and comparisons. Loads TensorFlow.js only when a policy or a trainer is created.',
  },
  {
    name: 'groupgrad/tfjs',
    file: 'tfjs.d.ts',
    page: 'groupgrad-tfjs.md',
    about:
      'The losses as differentiable TensorFlow.js operations. Importing it registers the gradients and methods of tensors that tfjs-core lacks on Node.',
  },
];
const folder = 'docs/api';
const note = '<!-- Written by `npm run docs:api` from the docstrings in src; changes here are lost. -->';

/** @typedef {{ kind: string, name: string, text: string, comment: string }} Declaration */
/** @typedef {{ declarations: Declaration[], imports: Map<string, { from: string, name: string }>, exports: Map<string, { from: string, name: string }> }} Module */

/** @type {Map<string, Module>} */
const modules = new Map();

function main() {
  const declarations = mkdtempSync(join(tmpdir(), 'groupgrad-api-'));
  try {
    const tsc = join('node_modules', 'typescript', 'bin', 'tsc');
    const args = [tsc, '-p', 'tsconfig.build.json', '--emitDeclarationOnly', '--outDir', declarations];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stdout);
    const pages = render(declarations);
    const check = process.argv.includes('--check');
    const stale = [...pages].filter(([page, text]) => !isSame(join(folder, page), text)).map(([page]) => page);
    if (!check) {
      mkdirSync(folder, { recursive: true });
      for (const [page, text] of pages) writeFileSync(join(folder, page), text);
    } else if (stale.length > 0) {
      console.error(`not up to date: ${stale.map((page) => join(folder, page)).join(', ')}; run \`npm run docs:api\``);
      process.exitCode = 1;
    }
  } finally {
    rmSync(declarations, { recursive: true, force: true });
  }
}

function isSame(path, text) {
  try {
    return readFileSync(path, 'utf8') === text;
  } catch {
    return false;
  }
}

/** The pages by name. */
function render(root) {
  const all = entries.map((entry) => ({ ...entry, ...collect(join(root, entry.file)) }));
  /** The page and anchor of a declaration's documentation. */
  const places = new Map();
  for (const { page, items } of all) {
    const anchors = new Map();
    for (const item of inOrder(items)) {
      if (places.has(item.key)) continue;
      // As GitHub distinguishes headings with the same text.
      const name = anchor(item.title);
      const count = anchors.get(name) ?? 0;
      anchors.set(name, count + 1);
      places.set(item.key, `${page}#${count === 0 ? name : `${name}-${count}`}`);
    }
  }
  const pages = new Map(all.map((entry) => [entry.page, renderPage(entry, places)]));
  const list = all.map(({ name, page, about }) => `- [\`${name}\`](${page}): ${about}`);
  pages.set('README.md', [note, '', '# API reference', '', ...list, ''].join('\n'));
  return pages;
}

/** The exports of an entry, followed by the types that they refer to and that are not exported. */
function collect(file) {
  const items = [...exportsOf(file)].map(([name, place]) => ({
    ...find(place.file, place.name),
    title: name,
    isPublic: true,
  }));
  const keys = new Set(items.map(({ key }) => key));
  for (const item of items) {
    item.uses = references(item).filter(({ key }) => key !== item.key);
    for (const used of item.uses) {
      if (keys.has(used.key)) continue;
      keys.add(used.key);
      items.push({ ...used, title: used.name, isPublic: false });
    }
  }
  return { items };
}

/** Exported names of a file, and the places of their declarations. */
function exportsOf(file) {
  const { declarations, exports } = load(file);
  const names = new Map([...exports].map(([name, { from, name: original }]) => [name, { file: from, name: original }]));
  for (const { name, text } of declarations) if (/^export /.test(text)) names.set(name, { file, name });
  return names;
}

/** The declarations of a name, through modules that only re-export it. */
function find(file, name) {
  const { declarations, exports, imports } = load(file);
  const own = declarations.filter((declaration) => declaration.name === name);
  if (own.length > 0) return { key: `${file}:${name}`, file, name, declarations: own };
  const next = exports.get(name) ?? imports.get(name);
  return next && find(next.from, next.name);
}

/** The package's own types that declarations mention. */
function references({ file, declarations }) {
  const { imports, declarations: siblings } = load(file);
  const words = new Set(declarations.flatMap(({ text }) => withoutComments(text).match(/[A-Za-z_]\w*/g) ?? []));
  const known = [...words].filter((word) => imports.has(word) || siblings.some(({ name }) => name === word));
  return known.flatMap((word) => find(file, word) ?? []).sort((a, b) => a.name.localeCompare(b.name));
}

/** The parts of a declaration file. tsc starts every statement at the beginning of a line; other such lines only end one. */
function load(file) {
  const known = modules.get(file);
  if (known) return known;
  /** @type {Module} */
  const module = { declarations: [], imports: new Map(), exports: new Map() };
  modules.set(file, module);
  const statements = readFileSync(file, 'utf8').split(/\n(?=\/\*\*|import |export |declare |type |interface )/);
  let comment = '';
  for (const statement of statements) {
    if (statement.startsWith('/**')) {
      comment = statement;
      continue;
    }
    const list = /^(import|export)\s(?:type\s)?\{([^}]*)\}\sfrom\s'(\.[^']+)\.js'/.exec(statement);
    const declared = /^(?:export )?(?:declare )?(function|class|const|interface|type) (\w+)/.exec(statement);
    if (list) {
      const [, kind, names, path] = list;
      const from = resolve(dirname(file), `${path}.d.ts`);
      for (const part of names
        .split(',')
        .map((text) => text.trim().replace(/^type /, ''))
        .filter(Boolean)) {
        const [name, alias = name] = part.split(' as ');
        (kind === 'import' ? module.imports : module.exports).set(alias, { from, name });
      }
    } else if (declared) {
      module.declarations.push({ kind: declared[1], name: declared[2], text: statement.trimEnd(), comment });
    }
    comment = '';
  }
  return module;
}

function withoutComments(text) {
  return text.replace(/\/\*\*[\s\S]*?\*\//g, '').replace(/'[^']*'/g, '');
}

const sections = [
  ['Functions', ({ declarations, isPublic }) => isPublic && declarations.some(({ kind }) => kind === 'function')],
  [
    'Classes and objects',
    ({ declarations, isPublic }) => isPublic && declarations.some(({ kind }) => kind === 'class' || kind === 'const'),
  ],
  ['Types', ({ isPublic }) => isPublic],
  ['Types that are not exported', () => true],
];

/** Each section with its items, by name. */
function inSections(items) {
  let rest = [...items].sort((a, b) => a.title.localeCompare(b.title));
  return sections.map(([title, belongs]) => {
    const part = rest.filter(belongs);
    rest = rest.filter((item) => !part.includes(item));
    return { title, part };
  });
}

function inOrder(items) {
  return inSections(items).flatMap(({ part }) => part);
}

function renderPage({ name, about, items, page }, places) {
  // Items described on another page are linked from those that use them.
  const own = items.filter(({ isPublic, key }) => isPublic || places.get(key).startsWith(`${page}#`));
  const parts = inSections(own).filter(({ part }) => part.length > 0);
  const link = ({ title, key }) => `[${title}](#${places.get(key).replace(/.*#/, '')})`;
  const contents = parts.map(({ title, part }) => `- ${title}: ${part.map(link).join(', ')}`);
  const body = parts.flatMap(({ title, part }) => [
    `## ${title}`,
    '',
    ...part.flatMap((item) => renderItem(item, page, places)),
  ]);
  const text = [note, '', `# \`${name}\``, '', about, '', ...contents, '', ...body].join('\n');
  return `${text.replace(/\n{3,}/g, '\n\n').trimEnd()}\n`;
}

function renderItem({ title, key, declarations, uses }, page, places) {
  const code = declarations.map(({ text }) => text.replace(/^export (declare )?/, '').replace(/^declare /, ''));
  const links = uses
    .filter((used) => used.key !== key && places.has(used.key))
    .map((used) => `[${used.name}](${places.get(used.key).replace(new RegExp(`^${page}`), '')})`);
  return [
    `### ${title}`,
    '',
    ...declarations.flatMap(({ comment }) => renderComment(comment)),
    '```ts',
    ...code,
    '```',
    '',
    ...(links.length > 0 ? [`Uses ${links.join(', ')}.`, ''] : []),
  ];
}

const headings = { param: 'Parameters', returns: 'Returns', throws: 'Throws', example: 'Example' };

/** A docstring as Markdown: its text, then its tags by kind. */
function renderComment(comment) {
  if (comment === '') return [];
  const text = comment
    .replace(/^\/\*\*\s*/, '')
    .replace(/\s*\*\/\s*$/, '')
    .replace(/^\* ?/, '')
    .replace(/\n \* ?/g, '\n')
    .replace(/\{@link (\w+)\}/g, '`$1`');
  const [description, ...tags] = text
    .split(/\n(?=@\w+)/)
    .flatMap((part, i) => (i === 0 && part.startsWith('@') ? ['', part] : [part]));
  const lines = description === '' ? [] : [description, ''];
  let last;
  for (const tag of tags) {
    const [, kind, body] = /^@(\w+)\s*([\s\S]*)$/.exec(tag);
    if (!(kind in headings)) throw new Error(`a docstring has the tag @${kind}, which the reference does not support`);
    if (kind !== last) lines.push(`**${headings[kind]}**`, '');
    last = kind;
    const oneLine = body.replace(/\n\s*/g, ' ');
    if (kind === 'param') lines.push(oneLine.replace(/^(\S+)\s*/, '- `$1`: '));
    else if (kind === 'example') lines.push(...(body.startsWith('```') ? [body] : ['```ts', body, '```']));
    else lines.push(oneLine);
    lines.push('');
  }
  return lines;
}

/** GitHub's anchors of headings. */
function anchor(title) {
  return title
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-');
}

main();
