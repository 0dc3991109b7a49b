//! What a session does by Q-Block (RFC 9177): bodies of requests, and representations.

use std::collections::VecDeque;
use std::time::Instant;

use super::download::Download;
use super::exchange::Asker;
use super::partial::Step;
use super::{ExchangeId, Response, Session};
use crate::cbor;
use crate::coap::{Block, Code, Kind, Message, Token, option};
use crate::request::Asked;
use crate::robust::{Sets, count_of, octets_of_missing};

impl Session {
    /// A request with Q-Block1.
    pub(super) fn handle_robust_upload(&mut self, now: Instant, message: &Message) {
        match self.partials.take(now, message, &self.parameters) {
            Step::Wait => {
                if message.kind == Kind::Confirmable {
                    let acknowledgement = Message::empty(Kind::Acknowledgement, message.message_id);
                    self.transmit(Some(acknowledgement));
                }
            }
            Step::Continue(last) => {
                let mut answer = self.robust_answer(Code::CONTINUE, message.token);
                answer.push_option(option::Q_BLOCK1, last.octets());
                self.transmit(Some(answer));
            }
            Step::Missing(numbers) => self.ask_for_missing(message.token, &numbers),
            Step::Whole(octets) => {
                let mut whole = message.clone();
                whole.options.retain(|(number, _)| {
                    !matches!(
                        *number,
                        option::Q_BLOCK1 | option::SIZE1 | option::REQUEST_TAG
                    )
                });
                whole.payload = octets;
                self.handle_whole(now, &whole, Some((None, message)));
            }
            Step::Done(message_id) => {
                if let Some(known) = self.exchanges.duplicate(now, message_id) {
                    self.handle_known(known);
                }
            }
            Step::Failed(code, text) => {
                let exchange = self.exchanges.begin(now, message);
                self.handle_response(now, exchange, Response::error(code, text));
            }
        }
    }

    /// Whether a request for a part of a representation that is on its way was served here.
    pub(super) fn serve_robust(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        asked: &Asked,
    ) -> bool {
        let Some(asker) = self.exchanges.asker(exchange) else {
            return false;
        };
        let (Some(key), Some(first)) = (asker.representation, asked.robust.first()) else {
            return false;
        };
        // The whole is asked for.
        if first.number == 0 && first.more {
            return false;
        }
        // A request for the first block alone may as well be a new reader, who wants no old state.
        let parameters = &self.parameters;
        let alone = first.number == 0 && asked.robust.len() == 1;
        let age = if alone {
            parameters.time_to_wait(parameters.non_max_retransmit())
        } else {
            parameters.non_partial_timeout()
        };
        let max_payloads = parameters.max_payloads();
        let Some(download) = self.downloads.find(now, key, *first, age) else {
            return false;
        };
        // RFC 9177 §4.4: 'Continue'.
        let goes_on =
            asked.robust.len() == 1 && first.more && first.number.is_multiple_of(max_payloads);
        if goes_on {
            download.sets.handle_continue(Some(first.number));
            self.acknowledge(exchange, &asker);
        } else {
            let message_id = &mut self.message_id;
            let next_id = || {
                *message_id = message_id.wrapping_add(1);
                *message_id
            };
            let token = asker.token;
            let Some(messages) = download.missing(now, &asked.robust, token, max_payloads, next_id)
            else {
                let text = "the block lies behind the end";
                let response = Response::error(Code::BAD_REQUEST, text);
                self.handle_response(now, exchange, response);
                return true;
            };
            self.acknowledge(exchange, &asker);
            let octets = messages.iter().map(Message::to_octets);
            self.transmits.extend(octets);
        }
        self.send_downloads(now);
        true
    }

    /// Answers by Q-Block2 where the client has asked for it and the body needs it. `sequence` is that of a registration.
    pub(super) fn answer_robust(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        asker: &Asker,
        sequence: Option<u32>,
        response: &Response,
    ) -> bool {
        let (Some(key), Some(asked)) = (asker.representation, asker.robust) else {
            return false;
        };
        let body = response
            .body
            .as_ref()
            .filter(|_| response.code == Code::CONTENT);
        let Some(Ok(octets)) = body.map(cbor::encode) else {
            return false;
        };
        if octets.len() <= asked.size() {
            return false;
        }
        let mut sets = self.sets(&octets, asked);
        // RFC 9177 §4.4: that block alone.
        if asked.number == 0 && !asked.more {
            sets = sets.only(0);
        }
        let download = Download {
            begun: now,
            key,
            token: asker.token,
            sequence,
            max_age: response.max_age,
            block: asked.first(),
            octets,
            sets,
            first_id: None,
            message_ids: VecDeque::new(),
        };
        self.acknowledge(exchange, asker);
        self.begin_download(now, download);
        true
    }

    /// Notifies by Q-Block2 a client that has registered with it.
    pub(super) fn notify_robust(
        &mut self,
        now: Instant,
        (key, token, block): (u64, Token, Block),
        (message_id, sequence): (u16, u32),
        octets: Vec<u8>,
    ) {
        let download = Download {
            begun: now,
            key,
            token,
            sequence: Some(sequence),
            max_age: None,
            block: block.first(),
            sets: self.sets(&octets, block),
            octets,
            first_id: Some(message_id),
            message_ids: VecDeque::new(),
        };
        self.begin_download(now, download);
    }

    /// Sends what is due, asks for what is missing.
    pub(super) fn handle_robust_timeout(&mut self, now: Instant) {
        for (token, numbers) in self.partials.handle_timeout(now, &self.parameters) {
            self.ask_for_missing(token, &numbers);
        }
        self.downloads
            .forget(now, self.parameters.non_partial_timeout());
        self.send_downloads(now);
    }

    /// When [`Session::handle_robust_timeout`] is due.
    pub(super) fn robust_due(&self) -> Option<Instant> {
        self.partials
            .due()
            .into_iter()
            .chain(self.downloads.due())
            .min()
    }

    fn sets(&mut self, octets: &[u8], block: Block) -> Sets {
        let count = count_of(octets.len(), block);
        Sets::new(count, &self.parameters, &mut self.numbers)
    }

    fn begin_download(&mut self, now: Instant, download: Download) {
        let kept_for = self.parameters.non_partial_timeout();
        self.downloads.begin(download, kept_for);
        self.send_downloads(now);
    }

    fn send_downloads(&mut self, now: Instant) {
        let message_id = &mut self.message_id;
        let messages = self.downloads.poll(now, || {
            *message_id = message_id.wrapping_add(1);
            *message_id
        });
        self.transmits
            .extend(messages.iter().map(Message::to_octets));
    }

    /// RFC 9177 §7: all payloads of a body are Non-confirmable, also where the request was Confirmable.
    fn acknowledge(&mut self, exchange: ExchangeId, asker: &Asker) {
        if asker.kind == Kind::Confirmable {
            let acknowledgement = Message::empty(Kind::Acknowledgement, asker.message_id);
            self.finish(exchange, &acknowledgement);
        }
    }

    fn ask_for_missing(&mut self, token: Token, numbers: &[u32]) {
        let mut answer = self.robust_answer(Code::REQUEST_ENTITY_INCOMPLETE, token);
        let format = option::octets(option::MISSING_BLOCKS);
        answer.push_option(option::CONTENT_FORMAT, format);
        answer.payload = octets_of_missing(numbers);
        self.partials.note_asked(token, answer.message_id);
        self.transmit(Some(answer));
    }

    fn robust_answer(&mut self, code: Code, token: Token) -> Message {
        let message_id = self.next_message_id();
        Message::new(Kind::NonConfirmable, code, message_id, token)
    }
}
