/**
 * JSON, a line each, out of a stream of bytes: lines may be cut anywhere, also inside a character. Bytes after the last newline are no line.
 * A line longer than the bound ends the stream with an error: no object of an API server is that large.
 */
const NEWLINE = 0x0a
const MOST_BYTES = 32 << 20

export async function* readLines(chunks: AsyncIterable<Buffer>, onChunk: () => void): AsyncGenerator<string> {
  let parts: Buffer[] = []
  let held = 0
  for await (const chunk of chunks) {
    onChunk()
    let from = 0
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      const line = chunk.subarray(from, at)
      const whole = parts.length === 0 ? line : Buffer.concat([...parts, line])
      parts = []
      held = 0
      from = at + 1
      if (whole.length > 0) yield whole.toString('utf8')
    }
    if (from < chunk.length) {
      // copied: the chunk may be a small part of a large buffer
      parts.push(Buffer.from(chunk.subarray(from)))
      held += chunk.length - from
      if (held > MOST_BYTES) throw new Error(`a line of more than ${MOST_BYTES} bytes`)
    }
  }
}
