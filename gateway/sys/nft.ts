/** nftables, through its program: scripts are transactions, so nothing is half in force. What may have changed is asked by netlink, at no cost. */
import { spawn } from 'node:child_process'
import { attributesOf, NETLINK_NETFILTER, request } from './netlinkMessages.ts'

const NFNL_SUBSYS_NFTABLES = 10
const NFT_MSG_GETGEN = 16
const NFTA_GEN_ID = 1

export class NftError extends Error {}

function run(args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nft', args, { stdio: ['pipe', 'pipe', 'pipe'] })
    let [out, err] = ['', '']
    child.stdout.on('data', data => {
      out += data
    })
    child.stderr.on('data', data => {
      err += data
    })
    child.stdin.on('error', () => {})
    child.on('error', error =>
      reject(new NftError(`nft cannot be started (${error.message}); on Debian or Ubuntu: apt-get install nftables`)),
    )
    child.on('close', code =>
      code === 0 ? resolve(out) : reject(new NftError(`nft: ${err.trim().split('\n')[0] ?? `exit code ${code}`}`)),
    )
    child.stdin.end(input)
  })
}

export async function runNft(script: string): Promise<void> {
  await run(['-f', '-'], script)
}

/** `nft -j list WHAT`, parsed; undefined when there is no such object. */
export async function listNft(what: string): Promise<unknown> {
  try {
    return JSON.parse(await run(['-j', 'list', ...what.split(' ')], ''))
  } catch {
    return undefined
  }
}

/** A number that differs after every change of any table in this network namespace. */
export function nftGeneration(): number {
  const type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN
  // struct nfgenmsg { u8 family; u8 version; be16 resource; }
  const answers = request('nft generation', { type, flags: 0, body: new Uint8Array(4), protocol: NETLINK_NETFILTER })
  const id = answers[0] && attributesOf(answers[0].body, 4).get(NFTA_GEN_ID)
  return id ? new DataView(id.buffer, id.byteOffset).getUint32(0) : 0
}
