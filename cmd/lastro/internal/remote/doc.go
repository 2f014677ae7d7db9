// Package remote is how a verb runs inside the daemon.
//
// The daemon has the data folder open, and only one process can. So a verb that
// a person types while the daemon runs is sent to it, runs there, and comes
// back as output, progress and an exit code:
//
//	<data>/lastro.sock        Unix socket, mode 0600, while a daemon runs
//	<data>/.lastro.sock.new/  folder of mode 0700 in which the socket is made;
//	                          it is renamed into place, so that at no moment
//	                          anybody else could connect
//
// # On the wire
//
// Frames in both directions: one byte for the kind, four bytes for the length
// of what follows (big endian), then at most 64 KiB (a request: 4 MiB).
//
//	daemon   h  {"protocol":1,"version":"…"}          before anything else
//	         n  {"error":"…"}                          refused: nothing follows
//	client   r  {"protocol":1,"args":[…],"dir":"…",…}  once
//	         c                                         Ctrl-C, any time after r
//	daemon   o  bytes for standard output
//	         e  bytes for standard error
//	         p  {"items":n,"total":n,"bytes":n}        progress since the last p
//	         d  {"item":"…","error":"…"}               one item is done
//	         x  {"code":n}                             the end: nothing follows
//
// The meaning of h and n, and the place of the protocol number in r, never
// change: two versions that do not understand each other can say so.
//
// # Guarantees
//
//   - Only the daemon's own user and root are served, by the credentials that
//     the kernel reports for the connection.
//   - A client that goes away or is interrupted ends the context of its verb.
//   - A client that reads nothing for half a minute is taken for gone; until
//     then it slows only its own verb. A client reads ahead of a paused
//     terminal or pager, so pausing one does not count.
//   - Output keeps its order. Progress is summed up, at most ten times a second,
//     and always arrives before the output that follows it.
//
// Linux only: credentials by SO_PEERCRED, and paths longer than a socket
// address can hold (107 bytes) through /proc/self/fd.
package remote
