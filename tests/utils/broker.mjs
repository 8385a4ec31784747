// MQTT broker of the tests beside Mosquitto: Aedes with credentials, TLS and kept sessions.
// Options come as one JSON argument; prints its process id. Sessions live as long as the process.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { Aedes } from 'aedes'

const options = JSON.parse(process.argv[2])
const broker = await Aedes.createBroker({ concurrency: 1000, queueLimit: 1_000_000 })

if (options.username) {
  broker.authenticate = (client, username, password, done) => {
    const right = username === options.username && String(password) === options.password
    done(right ? null : Object.assign(new Error('refused'), { returnCode: 4 }), right)
  }
}
if (options.forbidden) {
  broker.authorizeSubscribe = (client, subscription, done) =>
    done(null, subscription.topic === options.forbidden ? null : subscription)
}

const server = options.tls
  ? createTlsServer(
      {
        key: readFileSync(options.tls.key),
        cert: readFileSync(options.tls.certificate),
        ca: readFileSync(options.tls.ca),
        requestCert: true,
        rejectUnauthorized: true,
      },
      broker.handle,
    )
  : createServer(broker.handle)

server.listen(options.port, '127.0.0.1', () => console.log(process.pid))
process.stdin.resume().on('end', () => process.exit(0))
