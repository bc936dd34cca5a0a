//! Python: Flask, FastAPI, Django on PostgreSQL, and a worker of Celery's on Redis.

use std::net::TcpStream;

use tungstenite::protocol::Message;

use super::services::Service;
use super::{PATIENCE, begun, host, left_out, push, set, shows};
use crate::harness::DEADLINE;
use crate::routing::router;
use crate::terminal::Terminal;

#[test]
fn flask_with_gunicorn() {
    if left_out(&["python3"]) {
        return;
    }
    let app = "from flask import Flask\napp = Flask(__name__)\n@app.get('/')\ndef page():\n    return 'hello from flask'\n";
    let host = host();
    let files = [
        ("requirements.txt", "flask==3.*\ngunicorn==23.*\n"),
        ("app.py", app),
        ("Procfile", "web: venv/bin/gunicorn app:app\n"),
    ];
    let checkout = begun(&host, &files, "true");
    let remote = push(&checkout);
    shows(&host, "/", "hello from flask", &remote);
    assert!(remote.contains("-----> Python app detected"), "{remote}");
    // What depends on nothing that has changed is not installed again.
    checkout.write("app.py", &app.replace("hello", "hello again"));
    checkout.commit("Changes a line");
    let remote = push(&checkout);
    shows(&host, "/", "hello again from flask", &remote);
    assert!(remote.contains("nothing is installed"), "{remote}");
}

#[test]
fn fastapi_with_uvicorn_and_a_websocket() {
    if left_out(&["python3"]) {
        return;
    }
    let app = "from fastapi import FastAPI, WebSocket
app = FastAPI()

@app.get('/items/{number}')
def item(number: int):
    return {'twice': 2 * number}

@app.websocket('/echo')
async def echo(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
";
    let files = [
        ("requirements.txt", "fastapi==0.*\nuvicorn[standard]==0.*\n"),
        ("main.py", app),
        (
            "Procfile",
            "web: uvicorn main:app --host 0.0.0.0 --port $PORT\n",
        ),
    ];
    let host = host();
    let remote = push(&begun(&host, &files, "true"));
    shows(&host, "/items/21", "{\"twice\":42}", &remote);
    let stream = TcpStream::connect(router(&host)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut socket, _) = tungstenite::client("ws://shop.localhost/echo", stream).unwrap();
    for text in ["hello", "κόσμε"] {
        socket.send(Message::text(text)).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(text));
    }
}

#[test]
fn django_on_postgresql_with_its_static_files_and_its_shell() {
    if left_out(&["python3", "pg_isready"]) {
        return;
    }
    let make = "python3 -m venv ../venv; ../venv/bin/pip install -q 'django==5.*'
        ../venv/bin/django-admin startproject shop .
        cat >> shop/settings.py <<'X'
import dj_database_url
ALLOWED_HOSTS = ['*']
DATABASES = {'default': dj_database_url.config()}
STATIC_ROOT = BASE_DIR / 'staticfiles'
MIDDLEWARE.insert(1, 'whitenoise.middleware.WhiteNoiseMiddleware')
X
        cat >> shop/urls.py <<'X'
from django.contrib.auth.models import User
from django.http import HttpResponse
urlpatterns.append(path('', lambda request: HttpResponse(f'{User.objects.count()} users')))
X";
    let files = [
        (
            "requirements.txt",
            "django==5.*\ngunicorn==23.*\nwhitenoise==6.*\npsycopg[binary]==3.*\ndj-database-url==3.*\n",
        ),
        (
            "Procfile",
            "release: python manage.py migrate\nweb: gunicorn shop.wsgi\n",
        ),
    ];
    let base = Service::postgresql();
    let host = host();
    let checkout = begun(&host, &files, make);
    let url = format!("postgres://dyno@127.0.0.1:{}/dyno", base.port);
    set(&checkout, "DATABASE_URL", &url);
    let remote = push(&checkout);
    assert!(remote.contains("static files copied"), "{remote}");
    assert!(
        remote.contains("Applying auth.0001_initial... OK"),
        "{remote}"
    );
    shows(&host, "/", "0 users", &remote);
    shows(&host, "/static/admin/css/base.css", "DJANGO", &remote);
    let words = ["python", "manage.py", "shell"];
    let terminal = Terminal::run(&host, &checkout.folder, &words);
    terminal.wait_for_text(">>>");
    terminal.type_keys("from django.db import connection\rconnection.vendor\r");
    terminal.wait_for_line("'postgresql'");
    terminal.type_keys("exit()\r");
    terminal.exits(0);
}

#[test]
fn a_celery_worker_on_redis() {
    if left_out(&["python3", "redis-server", "redis-cli"]) {
        return;
    }
    let tasks = "import os
from celery import Celery
app = Celery('tasks', broker=os.environ['REDIS_URL'], backend=os.environ['REDIS_URL'])

@app.task
def twice(number):
    return f'{os.environ[\"DYNO\"]}: {2 * number}'
";
    let files = [
        ("requirements.txt", "celery[redis]==5.*\n"),
        ("tasks.py", tasks),
        (
            "send.py",
            "from tasks import twice\nprint(twice.delay(21).get(timeout=25))\n",
        ),
        (
            "Procfile",
            "worker: celery -A tasks worker --concurrency 1\n",
        ),
    ];
    let redis = Service::redis();
    let host = host();
    let checkout = begun(&host, &files, "true");
    let url = format!("redis://127.0.0.1:{}/0", redis.port);
    set(&checkout, "REDIS_URL", &url);
    push(&checkout);
    host.dyno(&checkout.folder, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    host.run(&checkout.folder, &["-q", "python send.py"])
        .patience(PATIENCE)
        .finish()
        .succeeds()
        .prints("worker.1: 42\n");
}
