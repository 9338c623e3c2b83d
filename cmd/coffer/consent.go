package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/cli"
	"coffer/passkey"
)

// passkeyWord is the value of COFFER_KEY that means --passkey.
const passkeyWord = "passkey"

// notNow is the button that signs nothing.
const notNow = "not now"

// signerOf opens o.as's key: a file's, an agent's, or a passkey that c lists for it.
func (o *options) signerOf(c *charter.Charter) (credential.Signer, error) {
	if !o.passkey {
		return o.signer()
	}
	if o.as == "" {
		return nil, cli.Usagef("--as is missing: your name in the charter")
	}
	p, ok := c.Person(o.as)
	if !ok {
		return nil, cli.Refusedf("the charter lists no person %q", o.as)
	}
	key, err := passkey.New(p.Keys, passkey.Patience)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", o.as, err)
	}
	o.page = key
	return key, nil
}

// endPage tells the page of a passkey, if this command opened one, how it ended.
func (o *options) endPage(err error) {
	if o.page != nil {
		o.page.Close("Done. What came of it is on the terminal.", err)
	}
}

// view is what somebody sees before they sign.
type view struct {
	Title string
	Lines []intent.Line
	ID    canon.Digest
	Given bool // consent was given on the command line
}

// consent is the one place where a person says yes: it shows what would be signed, in
// the terminal or on the page of a passkey, and asks. It answers which of the choices
// was made; in the terminal that is the first, which the command was about.
func (o *options) consent(ctx context.Context, cmd *cobra.Command, key credential.Signer, v view, choices ...string) (string, error) {
	w := cmd.ErrOrStderr()
	if p, ok := key.(*passkey.Signer); ok {
		page := passkey.Page{Title: v.Title, Note: "Your touch signs exactly this, under the ID " + v.ID.String() + ".", Choices: append(choices[:len(choices):len(choices)], notNow)}
		for _, l := range v.Lines {
			page.Lines = append(page.Lines, passkey.Line(l))
		}
		choice, err := p.Ask(ctx, w, page)
		if err == nil && choice == notNow {
			err = &cli.ExitError{Code: cli.Refused, Err: passkey.ErrDeclined}
		}
		return choice, err
	}
	printLines(w, v.Lines)
	if !v.Given {
		short := v.ID.String()[:6]
		if err := cli.Confirm(fmt.Sprintf("to %s this, type %s:", choices[0], short), short); err != nil {
			return "", err
		}
	}
	return choices[0], nil
}

// enrolPasskey makes a passkey on a page, and leaves the page open for the signature
// over the card.
func (o *options) enrolPasskey(cmd *cobra.Command, org string) (credential.Signer, error) {
	if o.as == "" {
		return nil, cli.Usagef("--as is missing: the name that you will have in the charter")
	}
	page := passkey.Page{
		Title: "Make a passkey for coffer",
		Lines: []passkey.Line{{Label: "name", Value: o.as}, {Label: "organisation", Value: org}, {Label: "for", Value: "approving on the page that coffer serves on this machine (localhost)"}},
		Note: "Your browser asks twice: once to make the passkey, once to sign your card with it, which proves that you hold it. " +
			"Choose a security key, or this device, rather than an account that copies passkeys elsewhere.",
		Choices: []string{"make a passkey", notNow},
	}
	key, err := passkey.Create(cmd.Context(), cmd.ErrOrStderr(), o.as+" of "+org, page, passkey.Patience)
	if errors.Is(err, passkey.ErrDeclined) {
		err = &cli.ExitError{Code: cli.Refused, Err: err}
	}
	if err != nil {
		return nil, err
	}
	o.page = key
	if key.Copied() {
		fmt.Fprintln(cmd.ErrOrStderr(), "note: the provider of this passkey may copy it to other devices: it is as safe as your account there. A security key keeps it to itself.")
	}
	return key, nil
}
