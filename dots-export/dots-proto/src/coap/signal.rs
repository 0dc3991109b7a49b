use crate::coap::{Code, Kind, Message, Token, option};

/// CSM: octets of the largest message that the sender takes.
const MAX_MESSAGE_SIZE: u16 = 2;
/// CSM: the sender takes blocks of more than 1024 octets as well.
const BLOCK_WISE: u16 = 4;
/// Ping and Pong: the sender has dealt with all that came before, and wants the peer to have.
const CUSTODY: u16 = 2;
/// Release: where to go instead.
const ALTERNATIVE_ADDRESS: u16 = 2;
/// Release: seconds to stay away.
const HOLD_OFF: u16 = 4;
/// Abort: the option of a CSM that was not understood.
const BAD_CSM_OPTION: u16 = 2;

/// A message of the transport itself (RFC 8323 §5), 7.xx.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Signal {
    /// Capabilities and settings: the first message of each side (§5.3).
    Csm {
        /// Octets of the largest message that the sender takes; `None` = as said before, or 1152.
        max_message_size: Option<u32>,
        /// Whether blocks are taken.
        block_wise: bool,
    },
    /// Is anybody there (§5.4)?
    Ping {
        /// Whether the answer is to come after all that was sent before is dealt with.
        custody: bool,
    },
    /// The answer, under the same token.
    Pong {
        /// Whether all that was sent before is dealt with.
        custody: bool,
    },
    /// The sender wants to end the connection in order (§5.5).
    Release {
        /// Where the peer may go instead.
        alternatives: Vec<String>,
        /// Seconds that the peer is to stay away.
        hold_off: Option<u32>,
    },
    /// The connection has come to its end (§5.6).
    Abort {
        /// The option of a CSM that was not understood.
        bad_csm_option: Option<u16>,
        /// Why, for people.
        diagnostic: String,
    },
}

/// Why a message of class 7 is no [`Signal`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// A code that RFC 8323 does not know: it is ignored.
    #[error("{0} is no known signal")]
    Unknown(Code),
    /// A critical option that is not understood, or malformed: the connection is aborted (RFC 8323 §5.2).
    #[error("option {number} of a {code} is not understood")]
    Option {
        /// The signal.
        code: Code,
        /// Its option.
        number: u16,
    },
}

impl Signal {
    /// Reads a message of class 7. Options that are not known and elective are ignored.
    pub fn read(message: &Message) -> Result<Self, SignalError> {
        let code = message.code;
        if !(Code::CSM..=Code::ABORT).contains(&code) {
            return Err(SignalError::Unknown(code));
        }
        // No signal has a critical option that we know.
        let critical = message
            .options
            .iter()
            .find(|(number, _)| option::is_critical(*number));
        if let Some((number, _)) = critical {
            let number = *number;
            return Err(SignalError::Option { code, number });
        }
        let number = |option: u16| message.option(option).and_then(option::number);
        Ok(match code {
            Code::CSM => Self::Csm {
                max_message_size: number(MAX_MESSAGE_SIZE),
                block_wise: message.option(BLOCK_WISE).is_some(),
            },
            Code::PING => Self::Ping {
                custody: message.option(CUSTODY).is_some(),
            },
            Code::PONG => Self::Pong {
                custody: message.option(CUSTODY).is_some(),
            },
            Code::RELEASE => Self::Release {
                alternatives: message
                    .values(ALTERNATIVE_ADDRESS)
                    .map(|value| String::from_utf8_lossy(value).into_owned())
                    .collect(),
                hold_off: number(HOLD_OFF),
            },
            _ => Self::Abort {
                bad_csm_option: number(BAD_CSM_OPTION)
                    .and_then(|number| u16::try_from(number).ok()),
                diagnostic: String::from_utf8_lossy(&message.payload).into_owned(),
            },
        })
    }

    /// The signal as a message; the token matters for Ping and Pong alone.
    #[must_use]
    pub fn message(&self, token: Token) -> Message {
        let of = |code| Message::new(Kind::NonConfirmable, code, 0, token);
        match self {
            Self::Csm {
                max_message_size,
                block_wise,
            } => {
                let mut message = of(Code::CSM);
                if let Some(size) = max_message_size {
                    message.push_option(MAX_MESSAGE_SIZE, option::octets(*size));
                }
                if *block_wise {
                    message.push_option(BLOCK_WISE, Vec::new());
                }
                message
            }
            Self::Ping { custody } => with_custody(of(Code::PING), *custody),
            Self::Pong { custody } => with_custody(of(Code::PONG), *custody),
            Self::Release {
                alternatives,
                hold_off,
            } => {
                let mut message = of(Code::RELEASE);
                for alternative in alternatives {
                    message.push_option(ALTERNATIVE_ADDRESS, alternative.as_bytes());
                }
                if let Some(seconds) = hold_off {
                    message.push_option(HOLD_OFF, option::octets(*seconds));
                }
                message
            }
            Self::Abort {
                bad_csm_option,
                diagnostic,
            } => {
                let mut message = of(Code::ABORT);
                if let Some(number) = bad_csm_option {
                    message.push_option(BAD_CSM_OPTION, option::octets((*number).into()));
                }
                message.payload = diagnostic.as_bytes().to_vec();
                message
            }
        }
    }
}

fn with_custody(mut message: Message, custody: bool) -> Message {
    if custody {
        message.push_option(CUSTODY, Vec::new());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::tcp;

    #[test]
    fn signals_survive_their_frames() {
        let token = Token::new(&[1, 2]).unwrap();
        for signal in [
            Signal::Csm {
                max_message_size: Some(32_768),
                block_wise: true,
            },
            Signal::Csm {
                max_message_size: None,
                block_wise: false,
            },
            Signal::Ping { custody: true },
            Signal::Pong { custody: false },
            Signal::Release {
                alternatives: vec!["192.0.2.1:4646".to_owned(), "dots.example".to_owned()],
                hold_off: Some(300),
            },
            Signal::Abort {
                bad_csm_option: Some(7),
                diagnostic: "no".to_owned(),
            },
        ] {
            let mut decoder = tcp::Decoder::new(tcp::MAX_MESSAGE);
            decoder.handle_octets(&tcp::frame(&signal.message(token)));
            let message = decoder.poll_message().unwrap().unwrap();
            assert_eq!(message.token, token);
            assert_eq!(Signal::read(&message), Ok(signal));
        }
    }

    #[test]
    fn unknown_signals_and_critical_options_are_told_apart() {
        let mut message = Message::new(Kind::NonConfirmable, Code::of(7, 9), 0, Token::default());
        assert!(matches!(
            Signal::read(&message),
            Err(SignalError::Unknown(_))
        ));
        message.code = Code::CSM;
        message.push_option(6, vec![1]);
        assert!(Signal::read(&message).is_ok());
        message.push_option(9, vec![1]);
        assert_eq!(
            Signal::read(&message),
            Err(SignalError::Option {
                code: Code::CSM,
                number: 9
            })
        );
    }
}
