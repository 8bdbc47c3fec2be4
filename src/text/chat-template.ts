// Chat templates: how messages become the text that a model was trained on. A template comes with a model and is a program:
// it runs in a separate process with limits on time and memory, so one that never terminates is only an error.

import { fork } from 'node:child_process';
import fs from 'node:fs';
import { extname, join } from 'node:path';
import { checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { moduleFile } from '../base/package-folder.js';
import type { TokenRole } from './tokenizer-files.js';

/** A message of a chat. Templates may read further fields: tool_calls, reasoning_content, … */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly [field: string]: unknown;
}

export interface RenderOptions {
  /** Add the generation prompt: end with the start of the assistant's answer. Default true. */
  addGenerationPrompt?: boolean;
  /** JSON schemas of tools that the model may call. */
  tools?: readonly object[];
  /** Documents to answer from. */
  documents?: readonly object[];
  /** Additional template variables: `{ enable_thinking: false }`. */
  variables?: Readonly<Record<string, unknown>>;
  /** One of several templates. Default: `tool_use` if there are tools and such a template, else `default`. */
  template?: string;
  /** Milliseconds for all chats of a call. Default 10,000. */
  timeLimit?: number;
}

/** A longer template is rejected. */
const maxTemplateLength = 2 ** 20;

const defaultTimeLimit = 10_000;

/** Megabytes of the process's heap. */
const memoryLimit = 256;

const defaultName = 'default';
const toolName = 'tool_use';

/** Input of the process. */
export interface RenderRequest {
  readonly source: string;
  /** Variables of each chat. */
  readonly chats: readonly Readonly<Record<string, unknown>>[];
  /** Milliseconds. */
  readonly timeLimit: number;
}

/** Output of the process. */
export type RenderAnswer =
  | { readonly texts: readonly string[] }
  | { readonly error: string; readonly chat: number | null };

/** The chat templates of a model folder. */
export class ChatTemplate {
  /**
   * @param templates templates by name; a single one is called `default`
   * @param tokens the template's `bos_token`, `eos_token`, …
   */
  constructor(
    readonly templates: ReadonlyMap<string, string>,
    private readonly tokens: Readonly<Partial<Record<TokenRole, string>>> = {},
  ) {
    for (const [name, source] of templates) {
      if (source.length > maxTemplateLength) {
        throw rangeError(
          `chat template ${describe(name)}`,
          `at most ${maxTemplateLength} characters`,
          String(source.length),
        );
      }
    }
  }

  /**
   * The templates of a folder: chat_template.jinja and additional_chat_templates/*.jinja, else `chat_template` of
   * tokenizer_config.json, a string or a list with names. null if there is none.
   */
  static read(
    folder: string,
    config: Readonly<Record<string, unknown>>,
    tokens: ReadonlyMap<TokenRole, string>,
  ): ChatTemplate | null {
    const templates = readFiles(folder) ?? readConfig(config.chat_template ?? null);
    return templates.size === 0 ? null : new ChatTemplate(templates, Object.fromEntries(tokens));
  }

  /**
   * The texts of chats, byte for byte as returned by transformers' apply_chat_template. The text already contains its special
   * tokens: encode it with `addSpecialTokens: false`.
   *
   * @throws RangeError if the template does not exist, rejects the messages, uses an unsupported feature, or does not terminate
   *   within the limits
   *
   * @example
   * const [prompt] = await tokenizer.chat.render([[{ role: 'user', content: 'What is 2 + 2?' }]]);
   */
  async render(chats: readonly (readonly ChatMessage[])[], options: RenderOptions = {}): Promise<string[]> {
    const { addGenerationPrompt = true, tools, documents, variables = {}, timeLimit = defaultTimeLimit } = options;
    checkNumber('timeLimit', timeLimit, { min: 1, max: 2 ** 31 - 1, integer: true });
    const name = options.template ?? (tools && this.templates.has(toolName) ? toolName : defaultName);
    const source = this.templates.get(name);
    if (source === undefined) {
      throw rangeError('template', `one of ${[...this.templates.keys()].map(describe).join(', ')}`, describe(name));
    }
    for (const [i, messages] of chats.entries()) checkMessages(`chat ${i}`, messages);
    const shared = {
      ...this.tokens,
      // null, not undefined: transformers passes None.
      tools: tools ?? null,
      documents: documents ?? null,
      add_generation_prompt: addGenerationPrompt,
      ...variables,
    };
    const answer = await run({ source, chats: chats.map((messages) => ({ ...shared, messages })), timeLimit });
    if ('texts' in answer) return [...answer.texts];
    const field = answer.chat === null ? 'chat template' : `chat template, chat ${answer.chat}`;
    throw rangeError(field, 'text', answer.error);
  }
}

function checkMessages(field: string, messages: unknown): void {
  if (!Array.isArray(messages)) throw typeError(field, 'an array of messages', messages);
  if (messages.length === 0) throw rangeError(field, 'at least one message', 'none');
  for (const [i, message] of messages.entries()) {
    const { role } = checkObject(`${field}, message ${i}`, message);
    if (typeof role !== 'string') throw typeError(`${field}, message ${i}, role`, 'a string', role);
  }
}

const templateFile = 'chat_template.jinja';
const moreTemplates = 'additional_chat_templates';

function readFiles(folder: string): Map<string, string> | undefined {
  const path = join(folder, templateFile);
  if (!fs.existsSync(path)) return undefined;
  const templates = new Map([[defaultName, fs.readFileSync(path, 'utf8')]]);
  const more = join(folder, moreTemplates);
  if (!fs.existsSync(more)) return templates;
  for (const file of fs.readdirSync(more).filter((name) => extname(name) === '.jinja')) {
    templates.set(file.slice(0, -'.jinja'.length), fs.readFileSync(join(more, file), 'utf8'));
  }
  return templates;
}

function readConfig(value: unknown): Map<string, string> {
  const field = 'tokenizer_config.json, chat_template';
  if (value === null) return new Map();
  if (typeof value === 'string') return new Map([[defaultName, value]]);
  if (!Array.isArray(value)) throw typeError(field, 'a string or an array of named templates', value);
  return new Map(
    value.map((entry, i) => {
      const { name, template } = checkObject(`${field}, template ${i}`, entry);
      if (typeof name !== 'string' || typeof template !== 'string') {
        throw typeError(`${field}, template ${i}`, 'a name and a template', name);
      }
      return [name, template];
    }),
  );
}

/** The error for a template that takes too long. */
export function noEnd(timeLimit: number): string {
  return `no end within ${timeLimit} ms`;
}

function serialize(request: RenderRequest): string {
  try {
    return JSON.stringify(request);
  } catch (error) {
    throw new TypeError(`chats: expected what JSON can hold, got other values: ${(error as Error).message}`);
  }
}

/** Runs a request in a separate process, which exits afterwards. */
async function run(request: RenderRequest): Promise<RenderAnswer> {
  const text = serialize(request);
  const program = moduleFile('text/chat-process');
  const child = fork(program, {
    execArgv: [...process.execArgv, `--max-old-space-size=${memoryLimit}`],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<RenderAnswer>((resolve, reject) => {
      const refuse = (error: string) => resolve({ error, chat: null });
      child.on('message', (message: RenderAnswer | 'ready') => {
        if (message !== 'ready') resolve(message);
        else {
          timer = setTimeout(() => refuse(noEnd(request.timeLimit)), request.timeLimit);
          child.send(text, () => {});
        }
      });
      child.on('error', reject);
      child.on('close', (code, signal) =>
        refuse(`its process ended by ${signal ?? `exit status ${code}`} (it may use ${memoryLimit} MB of memory)`),
      );
    });
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
}
