// The policy's own sampler: a rollout engine that uses the policy's decoder. A bounded number of rows is decoded at once; when a
// row ends, the next request takes its place. The choice of a token depends only on its row: the random number of each position is
// addressed by (seed, step, prompt, sample, position), so a completion does not depend on the other rows of its batch.

import { checkNumber, checkObject, rangeError, typeError } from '../base/check.js';
import { NumericFault } from '../base/numeric-fault.js';
import { uniform } from '../base/random.js';
import { yieldToEventLoop } from '../base/yield.js';
import type { DeviceChoice } from '../devices/devices.js';
import { checkLogits } from '../model/check-logits.js';
import type { Decoder, Policy, RefillableDecoder, SequenceBatch } from '../model/policy.js';
import { paddingOf, type TextStream } from '../text/tokenizer.js';
import { drawTokens } from './draw.js';
import {
  type Completion,
  checkRequests,
  checkSamplingSettings,
  isCut,
  type RolloutEngine,
  type RolloutOptions,
  type RolloutRequest,
} from './engine.js';
import { sequencesPerDecodingStep, sequencesPerPass } from './pass-size.js';

export interface SamplerOptions {
  /** Maximum number of rows decoded at once, at least 1. Default: 512, or fewer for policies of more than 23 million parameters. */
  rows?: number;
  /** Device that computes the log-probs: on the device of the loss, they equal the loss's bit for bit. Default `'auto'`. */
  device?: DeviceChoice;
}

/** Bounds the memory of the cache. */
const maxRows = 512;

/** Maximum number of prompts that are prefilled in one pass, ahead of the rows that need them. */
const promptsAhead = 16;

/**
 * The rollout engine of a policy in this process.
 *
 * @example
 * const engine = policySampler(policy);
 * const requests = [0, 1, 2, 3].map((sample) => ({ prompt: Int32Array.of(5, 3), promptIndex: 0, sample }));
 * const completions = await engine.complete(requests, { maxTokens: 32, temperature: 1, topP: 0.95, seed: 7, step: 0 });
 */
export function policySampler(policy: Policy, { rows, device = 'auto' }: SamplerOptions = {}): RolloutEngine {
  if (rows !== undefined) checkNumber('rows', rows, { min: 1, integer: true });
  return {
    name: 'policy',
    complete: async (requests, options) => {
      const { vocabularySize } = policy.tokenizer;
      checkRequests(requests, policy.logitsSize);
      checkSamplingSettings('sampling.', options);
      const outside = options.stopTokens?.findIndex((id) => id >= vocabularySize) ?? -1;
      if (outside >= 0) {
        const id = String(options.stopTokens![outside]);
        throw rangeError(`sampling.stopTokens[${outside}]`, `a token id from 0 to ${vocabularySize - 1}`, id);
      }
      if (requests.length === 0) return [];
      const slots = Math.min(rows ?? Math.min(maxRows, sequencesPerDecodingStep(policy)), requests.length);
      return new Sampling(policy, device, requests, options, slots).run();
    },
  };
}

/** A completion being sampled. */
interface Draft {
  /** Index of its request. */
  index: number;
  request: RolloutRequest;
  tokens: number[];
  logProbs: number[];
  /** With truncation, the kept ids at each position. */
  kept: Int32Array[];
  isEnded: boolean;
  /** The end of the decoded text, as long as the longest stop text; undefined without stop texts. */
  text: { stream: TextStream; tail: string } | undefined;
}

/** One call of the sampler. */
class Sampling {
  private readonly drafts: (Draft | undefined)[] = [];
  private readonly results: Completion[];
  private readonly endTokens: ReadonlySet<number>;
  private readonly isCut: boolean;
  private readonly prompts: PromptReader;
  private readonly longestStop: number;
  private decoder: Decoder | undefined;

  constructor(
    private readonly policy: Policy,
    private readonly device: DeviceChoice,
    requests: readonly RolloutRequest[],
    private readonly options: RolloutOptions,
    private readonly slots: number,
  ) {
    const { stopTokens = [], stopTexts = [], temperature } = options;
    this.results = new Array(requests.length);
    this.endTokens = new Set([...policy.tokenizer.endTokens, ...stopTokens]);
    // Truncation always keeps the most likely token, so greedy decoding ignores it.
    this.isCut = temperature !== 0 && isCut(options);
    this.longestStop = stopTexts.reduce((most, text) => Math.max(most, text.length), 0);
    this.prompts = new PromptReader(policy, requests, options);
  }

  async run(): Promise<Completion[]> {
    try {
      for (;;) {
        this.admit();
        if (this.drafts.every((draft) => draft === undefined || draft.isEnded)) return this.results;
        this.chooseTokens();
        await yieldToEventLoop(this.options.signal);
        this.advance();
      }
    } finally {
      this.decoder?.dispose();
      this.prompts.dispose();
    }
  }

  /** Starts the decoder if there is none, or gives free rows to the next requests if the decoder supports it. */
  private admit(): void {
    const { decoder } = this;
    const free = this.drafts.flatMap((draft, row) => (draft === undefined ? [row] : []));
    if (this.prompts.waiting === 0) return;
    if (!decoder) {
      const started = this.prompts.start(this.slots);
      this.decoder = started.decoder;
      started.requests.forEach(({ index, request }, row) => {
        this.drafts[row] = this.draft(index, request);
      });
    } else if (isRefillable(decoder) && free.length > 0) {
      const taken = this.prompts.fill(decoder, free);
      taken.forEach(({ index, request }, i) => {
        this.drafts[free[i]] = this.draft(index, request);
      });
    }
  }

  private draft(index: number, request: RolloutRequest): Draft {
    const stream = this.longestStop > 0 ? this.policy.tokenizer.stream({ skipSpecialTokens: true }) : undefined;
    const text = stream && { stream, tail: '' };
    return { index, request, tokens: [], logProbs: [], kept: [], isEnded: false, text };
  }

  /** Chooses the next token of each row, and hands over completions that have ended. */
  private chooseTokens(): void {
    const { temperature, maxTokens } = this.options;
    const logits = checkLogits(this.decoder!.logits, this.drafts.length, this.policy.logitsSize);
    const { seed, step } = this.options;
    const stream = { seed, purpose: 'sampling', index: step } as const;
    const drawn = drawTokens(logits, {
      temperature,
      cut: this.options,
      allowed: this.policy.tokenizer.vocabularySize,
      wanted: (row) => isLive(this.drafts[row]),
      uniform: (row) => {
        const { request, tokens } = this.drafts[row]!;
        return uniform(stream, request.promptIndex, request.sample, tokens.length);
      },
      device: this.device,
    });
    for (const [row, draft] of this.drafts.entries()) {
      if (isLive(draft) && drawn.tokens[row] < 0) {
        throw new NumericFault(
          `logits: expected finite values, got non-finite values at position ${draft.tokens.length} of prompt ${draft.request.promptIndex}`,
        );
      }
    }
    this.drafts.forEach((draft, row) => {
      if (!isLive(draft)) return;
      const token = drawn.tokens[row];
      draft.tokens.push(token);
      draft.logProbs.push(drawn.logProbs[row]);
      if (drawn.kept) draft.kept.push(drawn.kept[row]);
      const isStopped = this.endTokens.has(token) || this.completesStop(draft, token);
      if (isStopped || draft.tokens.length === maxTokens) this.finish(draft, row, !isStopped);
    });
  }

  private completesStop(draft: Draft, token: number): boolean {
    const { text } = draft;
    if (!text) return false;
    text.tail += text.stream.push(token);
    if (this.options.stopTexts!.some((stop) => text.tail.includes(stop))) return true;
    text.tail = text.tail.slice(Math.max(0, text.tail.length - this.longestStop + 1));
    return false;
  }

  private finish(draft: Draft, row: number, truncated: boolean): void {
    const { index, tokens, logProbs, kept } = draft;
    const completion: Completion = {
      tokens: Int32Array.from(tokens),
      logProbs: Float32Array.from(logProbs),
      truncated,
      ...(this.isCut && { kept: joined(kept) }),
    };
    this.results[index] = completion;
    draft.isEnded = true;
    if (isRefillable(this.decoder!)) this.drafts[row] = undefined;
    this.options.onCompletion?.(completion, index);
  }

  /** Appends the chosen tokens. Rows that have ended are removed once they are at least half of all. */
  private advance(): void {
    const live = this.drafts.flatMap((draft, row) => (isLive(draft) ? [row] : []));
    const { decoder } = this;
    if (!decoder || live.length === 0) {
      this.decoder?.dispose();
      this.decoder = undefined;
      this.drafts.length = 0;
      return;
    }
    if (isRefillable(decoder) && this.prompts.waiting === 0 && 2 * live.length <= this.drafts.length) {
      this.decoder = decoder.select(Int32Array.from(live));
      decoder.dispose();
      this.drafts.splice(0, this.drafts.length, ...live.map((row) => this.drafts[row]));
    }
    // In a decoder without `replace`, a row that has ended repeats its last token until the others end.
    this.decoder!.append(Int32Array.from(this.drafts, (draft) => draft?.tokens.at(-1) ?? -1));
  }
}

function isLive(draft: Draft | undefined): draft is Draft {
  return draft !== undefined && !draft.isEnded;
}

function isRefillable(decoder: Decoder): decoder is RefillableDecoder {
  const { select, replace } = decoder as Partial<RefillableDecoder>;
  return typeof select === 'function' && typeof replace === 'function';
}

function joined(kept: readonly Int32Array[]): NonNullable<Completion['kept']> {
  const offsets = new Int32Array(kept.length + 1);
  kept.forEach((own, t) => {
    offsets[t + 1] = offsets[t] + own.length;
  });
  const ids = new Int32Array(offsets[kept.length]);
  kept.forEach((own, t) => {
    ids.set(own, offsets[t]);
  });
  return { ids, offsets };
}

interface Waiting {
  index: number;
  request: RolloutRequest;
}

/** A prefilled prompt: a row of a decoder that nothing is appended to. */
interface ReadPrompt {
  store: { decoder: RefillableDecoder; prompts: number };
  row: number;
}

/** Prefills each prompt once, some of them ahead, and keeps it until the last request for it has begun. */
class PromptReader {
  private next = 0;
  /** For each prompt, the number of requests that have not begun. */
  private readonly requested = new Map<number, number>();
  private readonly read = new Map<number, ReadPrompt>();
  private readonly longest: number;
  /** Whether the policy's decoders cannot replace rows; known once the first decoder exists. */
  private isFixed = false;

  constructor(
    private readonly policy: Policy,
    private readonly requests: readonly RolloutRequest[],
    private readonly options: RolloutOptions,
  ) {
    for (const { promptIndex } of requests) this.requested.set(promptIndex, (this.requested.get(promptIndex) ?? 0) + 1);
    this.longest = requests.reduce((most, { prompt }) => Math.max(most, prompt.length), 0);
  }

  get waiting(): number {
    return this.requests.length - this.next;
  }

  /** A new decoder for the next requests, at most `rows`. */
  start(rows: number): { decoder: Decoder; requests: Waiting[] } {
    if (this.isFixed) return this.startFixed(rows);
    const first = this.requests[this.next].promptIndex;
    if (!this.read.has(first)) {
      const prompts = this.ahead(rows, promptsAhead);
      const decoder = this.decode(prompts, Int32Array.from(prompts.keys()));
      if (!isRefillable(decoder)) {
        decoder.dispose();
        this.isFixed = true;
        return this.startFixed(rows);
      }
      this.remember(prompts, decoder);
    }
    const { store } = this.read.get(first)!;
    const requests = this.take(rows, (own) => own.store === store);
    const own = Int32Array.from(requests, ({ request }) => this.read.get(request.promptIndex)!.row);
    // Rows for requests whose prompts are in other decoders hold a copy of the first prompt until they are filled.
    const more = Math.min(rows - requests.length, this.waiting);
    const decoder = store.decoder.select(Int32Array.of(...own, ...new Int32Array(more).fill(own[0])));
    this.release(requests);
    try {
      const places = Array.from({ length: more }, (_, i) => requests.length + i);
      return { decoder, requests: [...requests, ...this.fill(decoder, places)] };
    } catch (error) {
      decoder.dispose();
      throw error;
    }
  }

  /** Starts the next requests in the given rows of a decoder. */
  fill(decoder: RefillableDecoder, rows: readonly number[]): Waiting[] {
    const filled: Waiting[] = [];
    while (filled.length < rows.length && this.waiting > 0) {
      const first = this.requests[this.next].promptIndex;
      const room = rows.length - filled.length;
      if (!this.read.has(first)) {
        const prompts = this.ahead(room, promptsAhead);
        this.remember(prompts, this.decode(prompts, Int32Array.from(prompts.keys())) as RefillableDecoder);
      }
      const { store } = this.read.get(first)!;
      const taken = this.take(room, (own) => own.store === store);
      const at = Int32Array.from(taken, (_, i) => rows[filled.length + i]);
      decoder.replace(
        at,
        store.decoder,
        Int32Array.from(taken, ({ request }) => this.read.get(request.promptIndex)!.row),
      );
      this.release(taken);
      filled.push(...taken);
    }
    return filled;
  }

  dispose(): void {
    for (const { store } of this.read.values()) {
      if (store.prompts > 0) store.decoder.dispose();
      store.prompts = 0;
    }
  }

  /** A decoder without `replace`, for the next requests, with as many prompts as one pass can read. */
  private startFixed(rows: number): { decoder: Decoder; requests: Waiting[] } {
    const prompts = this.ahead(rows, 0);
    const indices = new Map(prompts.map(({ promptIndex }, i) => [promptIndex, i]));
    const requests: Waiting[] = [];
    while (requests.length < rows && this.waiting > 0 && indices.has(this.requests[this.next].promptIndex)) {
      requests.push({ index: this.next, request: this.requests[this.next] });
      this.next++;
    }
    const promptOfRow = Int32Array.from(requests, ({ request }) => indices.get(request.promptIndex)!);
    return { decoder: this.decode(prompts, promptOfRow), requests };
  }

  /** The next prompts to prefill: those of the next `rows` requests, more up to a total of `least`, at most what fits one pass. */
  private ahead(rows: number, least: number): RolloutRequest[] {
    const most = sequencesPerPass(this.policy, this.longest, 'forward');
    const prompts = new Map<number, RolloutRequest>();
    for (let i = this.next; i < this.requests.length && prompts.size < most; i++) {
      if (i - this.next >= rows && prompts.size >= least) break;
      const { promptIndex } = this.requests[i];
      if (!this.read.has(promptIndex) && !prompts.has(promptIndex)) prompts.set(promptIndex, this.requests[i]);
    }
    return [...prompts.values()];
  }

  private take(count: number, where: (own: ReadPrompt) => boolean): Waiting[] {
    const taken: Waiting[] = [];
    while (taken.length < count && this.waiting > 0) {
      const request = this.requests[this.next];
      const own = this.read.get(request.promptIndex);
      if (!own || !where(own)) break;
      taken.push({ index: this.next, request });
      this.next++;
    }
    return taken;
  }

  private remember(prompts: readonly RolloutRequest[], decoder: RefillableDecoder): void {
    const store = { decoder, prompts: prompts.length };
    prompts.forEach(({ promptIndex }, row) => {
      this.read.set(promptIndex, { store, row });
    });
  }

  /** Frees prompts that no request needs any more. */
  private release(begun: readonly Waiting[]): void {
    for (const { request } of begun) {
      const { promptIndex } = request;
      const left = this.requested.get(promptIndex)! - 1;
      this.requested.set(promptIndex, left);
      if (left > 0) continue;
      const { store } = this.read.get(promptIndex)!;
      this.read.delete(promptIndex);
      store.prompts--;
      if (store.prompts === 0) store.decoder.dispose();
    }
  }

  private decode(prompts: readonly RolloutRequest[], promptOfRow: Int32Array): Decoder {
    const { maxTokens, contextLength = this.longest + maxTokens - 1 } = this.options;
    const batch = padPrompts(
      prompts.map(({ prompt }) => prompt),
      this.longest,
      paddingOf(this.policy.tokenizer),
    );
    const given: unknown = this.policy.decode({ ...batch, contextLength }, promptOfRow, maxTokens - 1);
    const decoder = checkObject('policy.decode', given);
    for (const method of ['append', 'dispose']) {
      if (typeof decoder[method] !== 'function') {
        throw typeError(`policy.decode(…).${method}`, 'a function', decoder[method]);
      }
    }
    return decoder as unknown as Decoder;
  }
}

/** Left-pads prompts to `length` positions; `padding` is any token id. RangeError for an empty or too long prompt. */
export function padPrompts(prompts: readonly Int32Array[], length: number, padding: number): SequenceBatch {
  const tokens = new Int32Array(prompts.length * length).fill(padding);
  const starts = Int32Array.from(prompts, (prompt) => length - prompt.length);
  prompts.forEach((prompt, b) => {
    if (prompt.length === 0 || starts[b] < 0) {
      throw new RangeError(`prompts[${b}]: expected 1 to ${length} tokens, got ${prompt.length}`);
    }
    tokens.set(prompt, b * length + starts[b]);
  });
  return { sequences: prompts.length, length, tokens, starts };
}
