/**
 * Where primaries may say that a zone changed (NOTIFY, RFC 1996), over UDP and TCP. Everything else is refused or ignored; nothing is believed but that it is
 * time to look.
 */
import { createSocket, type Socket } from 'node:dgram'
import { Flag, Opcode, Rcode, Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, HEADER, type Message, opcodeOf } from '../../dns/message.ts'
import type { Name } from '../../dns/name.ts'
import { DEFAULT_LIMITS, TcpListener } from '../../dns/tcpListener.ts'
import { appendTsigError, type TsigFault, type TsigKey, TsigSigner, TsigVerifier } from '../../dns/tsig.ts'

export interface NotifyListenerSettings {
  listen: { host: string; port: number }
  /** where there are any, a notification must be signed with one of them */
  keys: readonly TsigKey[]
  /** False: nobody knows that zone from that address. */
  onNotify(zone: Name, from: string): boolean
}

export class NotifyListener {
  readonly #settings: NotifyListenerSettings
  readonly #tcp: TcpListener
  #udp: Socket | undefined
  port = 0

  constructor(settings: NotifyListenerSettings) {
    this.#settings = settings
    this.#tcp = new TcpListener((request, from) => {
      const answer = this.answer(request, from)
      return answer && [answer]
    }, DEFAULT_LIMITS)
  }

  async start(): Promise<void> {
    const { host, port } = this.#settings.listen
    const address = host === '' ? '0.0.0.0' : host
    // a port that is free for TCP may be taken for UDP: where any will do, another is tried
    for (let triesLeft = port === 0 ? 5 : 1; ; triesLeft--) {
      try {
        const tcp = await this.#tcp.listen(address, port)
        this.port = tcp.port
        try {
          this.#udp = await this.#listenUdp(address, tcp.port)
          return
        } catch (error) {
          tcp.close()
          throw error
        }
      } catch (error) {
        if (triesLeft > 1) continue
        throw new Error(`cannot listen for NOTIFY on ${address} port ${port}: ${(error as Error).message}`, {
          cause: error,
        })
      }
    }
  }

  async #listenUdp(address: string, port: number): Promise<Socket> {
    const udp = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', ipv6Only: address.includes(':') })
    try {
      await new Promise<void>((resolve, reject) => {
        udp.once('error', reject)
        udp.bind(port, address, resolve)
      })
    } catch (error) {
      udp.close()
      throw error
    }
    udp.removeAllListeners('error')
    udp.on('error', () => {})
    udp.on('message', (bytes, from) => {
      if (from.port === 0) return
      const answer = this.answer(Uint8Array.from(bytes), from.address.replace(/%.*/, ''))
      if (answer) udp.send(answer, from.port, from.address, () => {})
    })
    return udp
  }

  /** The answer to one message; undefined: none. */
  answer(bytes: Uint8Array, from: string): Uint8Array | undefined {
    if (bytes.length < HEADER || (bytes[2]! & 0x80) !== 0) return undefined
    const message = decodeMessage(bytes)
    if (typeof message === 'string') return undefined
    const { id, questions, flags } = message
    const opcode = flags & 0x7800
    const say = (rcode: number) =>
      encodeMessage({ id, flags: Flag.QR | opcode | rcode, questions: questions.slice(0, 1) })
    if (opcodeOf(flags) !== Opcode.NOTIFY) return say(Rcode.REFUSED)
    if (questions.length !== 1 || questions[0]!.type !== Type.SOA) return say(Rcode.FORMERR)
    const now = () => Date.now() / 1000
    const verifier = new TsigVerifier(this.#settings.keys, now)
    const fault = this.#settings.keys.length > 0 ? verifier.verify(bytes, message) : undefined
    if (fault === 'unsigned') return say(Rcode.REFUSED)
    if (fault === 'malformed') return say(Rcode.FORMERR)
    if (fault) return this.#refuseSignature(say(Rcode.NOTAUTH), message.tsig!, { fault, verifier, now })
    const isKnown = this.#settings.onNotify(questions[0]!.name, from)
    const plain = encodeMessage({ id, flags: Flag.QR | Flag.AA | opcode | (isKnown ? 0 : Rcode.REFUSED), questions })
    return verifier.key ? new TsigSigner(verifier.key, now, verifier.mac).sign(plain).message : plain
  }

  // as RFC 8945 section 5.2 has it: of a signature that is right and late, the time is signed
  #refuseSignature(
    plain: Uint8Array,
    tsig: NonNullable<Message['tsig']>,
    { fault, verifier, now }: { fault: TsigFault; verifier: TsigVerifier; now(): number },
  ): Uint8Array {
    if (fault === 'bad time' && verifier.key)
      return new TsigSigner(verifier.key, now, verifier.mac).sign(plain, Rcode.BADTIME, verifier.time).message
    return appendTsigError(plain, tsig, fault === 'bad key' ? Rcode.BADKEY : Rcode.BADSIG, now())
  }

  async stop(): Promise<void> {
    this.#udp?.close()
    await this.#tcp.close()
  }
}
