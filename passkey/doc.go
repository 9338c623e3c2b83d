// Package passkey asks a person's browser for passkey signatures, on a page that the
// person's own program serves to it on localhost.
//
// The page is written by this process from what it decoded itself, by html/template;
// its script decodes nothing and fetches nothing from elsewhere. It shows what would be
// signed, takes the choice, and hands the challenge to navigator.credentials. What comes
// back is verified as a signer would before it leaves Sign. Nothing is signed that was
// not shown: Sign without Ask is an error.
//
// Promised: only a browser on this machine that knows the unguessable address gets the
// page, and only the first that opens it; no other site can read it, frame it or post
// to it; one page takes one answer, and ends.
//
// Another program or site can try: to guess the address; to reach the server under
// another name that it made point here (the Host header is compared); to post across
// sites (Origin, Sec-Fetch-Site and a cookie are); to put markup into a label (templates
// escape, and a policy forbids every script and style but ours); to send bodies without
// end; to stand at the address after this program ended while its page is still open
// (each reply is proved by a key that only the page has). It can also take the browser or
// the machine, which nothing here survives; and it can serve a page of its own on another
// port of localhost and ask the same passkey to sign, which a person sees by the page
// being another than the one that coffer named.
package passkey
